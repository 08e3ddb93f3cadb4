"""Answers as models write them, and their plain text as a full Markdown parser reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

CORPUS = {
    "headings": "# One\nText right after.\n\n## Two ##\n### **Bold** in three\n\nMore.\n",
    "emphasis": "This is **bold**, *em*, __strong__, _em_, ***both*** and ~~gone~~. "
    "**Note**: a colon. **Note:** inside. A **bold that\ngoes over lines** ends.\n",
    "not emphasis": "snake_case_name, _private_var_x, __init__.py is not bold? 5 * 3 * 2, "
    "a ** b, f(*args, **kwargs) and 3 > 2 & 1 < 4; C:\\temp\\new\\_x; rates *\n",
    "code spans": "Use `pip install x`, ``a ` b``, `**not bold**` and `snake_case`.\n",
    "links": "See [the docs](https://a.example/x_y_z), <https://b.example/> and "
    "[a **bold** link](http://c.example/a(b)). A [ref] and arr[0] stay; ![alt](i.png).\n",
    "bullets": "Here are some:\n- one\n- two **bold**\n  - nested a\n  - nested b\n"
    "    - deep\n- three\n\nAfter.\n",
    "stars": "* a\n* b\n    * nested by four\n    * again\n* c\n\n+ plus\n+ again\n",
    "ordered from three": "3. three\n4. four\n5. five\n\nThen:\n\n1) one\n2) two\n10) ten\n",
    "list with code": "1. Install:\n\n   ```bash\n   pip install x\n   ```\n\n2. Run:\n\n"
    "   ```python\n   def f(x):\n       return x * 2\n   ```\n   And more text.\n\n3. Done\n",
    "loose list": "1. **First step**: do it.\n\n   A second paragraph.\n\n2. **Second**: again.\n"
    "\n   - with a bullet\n   - and another\n",
    "tasks": "- [ ] open\n- [x] done\n",
    "quotes": "> A quote\n> on two lines.\n>\n> > nested\n> > quote\n>\n> - list in it\n\nAfter.\n",
    "lazy": "> quote that\ngoes on lazily\n\n- item that\ngoes on\n",
    "table": "| Name | Size | Speed |\n|:-----|:----:|------:|\n| `a` | 1 GB | **12** |\n"
    "| b \\| c | 22 GB | 3 |\n| d | | 4 |\n\nAfter the table.\n",
    "fences": "```python\nprint('**not bold**')\n\n# no heading\n- no list\n```\n\n~~~\n```\n~~~\n"
    "\n````md\n```js\nx\n```\n````\n",
    "unclosed fence": "Look:\n\n```c\nint main(void) {\n    return 0;\n",
    "rules": "Above\n\n---\n\nBetween\n\n***\n\n* * *\n\nBelow\n",
    "escapes": "\\*not em\\*, 1\\. no list, \\# no heading, \\`no code\\` and a\\_b.\n"
    "\n1986\\. A year.\n",
    "breaks": "Roses are red,  \nviolets are blue,\\\nsugar.\n",
    "entities": "a &lt; b &amp;&amp; c &gt; d, AT&T and &unknown;\n",
    "east asian": "这是**重点**内容。\n\n- 第一项\n- 第二项：`代码`\n\n"
    "| 名称 | 值 |\n|---|---|\n| 苹果 | 1 |\n",
    "not tables": "a | b is a pipe\n\n| only one line\n\n|x| is absolute\nand goes on.\n",
    "indented": "Text:\n\n    indented code\n      deeper\n\nAfter.\n",
    "year": "The year was\n1986. It was good.\n\n- item\n2024 was another.\n",
    "long bold": "**Warning: this one sentence is bold from its first word to the last, and it is "
    "longer than any answer should hold back.** Then normal text.\n",
}


def text_of(markdown: str) -> str:
    """The text of an answer, without white space and markers, by markdown-it."""
    parser = MarkdownIt("commonmark", {"breaks": True, "html": False})
    parser.enable(["table", "strikethrough"])
    return condensed("".join(_texts(parser.parse(markdown))))


def _texts(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "list_item_open" and token.info:
            yield f"{token.info}{token.markup}"
        elif token.type in ("fence", "code_block"):
            yield without_fences(token.content)
        elif token.children:
            yield from _inline(token.children)


def _inline(tokens: list[Token]) -> Iterator[str]:
    targets: list[str] = []
    for token in tokens:
        if token.type == "link_open":
            targets.append("" if token.markup == "autolink" else f"({token.attrs['href']})")
        elif token.type == "link_close":
            yield targets.pop()
        elif token.type == "image":
            yield f"{token.content}({token.attrs['src']})"
        else:
            yield token.content


def condensed(text: str) -> str:
    """Without white space and without what only one of two renderers shows."""
    return re.sub(r"[\s•│─]", "", text)


def without_fences(text: str) -> str:
    """Without the lines that begin and end code."""
    return re.sub(r"(?m)^[│ ]*(```|~~~).*$", "", text)
