"""What a person sees of an answer."""

from __future__ import annotations

from textwrap import dedent

import pytest

from fwlocal.markdown import MarkdownWriter
from tests.markdown.terminal import Terminal, plain, shown


def lines(answer: str, width: int = 40) -> list[str]:
    """The rows of an answer in colours."""
    return shown(dedent(answer), width).rows()


def test_items_hang_and_keep_their_numbers() -> None:
    answer = (
        "3. three is long enough for two rows of it\n   - and nested words go on over here\n4. x\n"
    )
    assert lines(answer, 30) == [
        "3. three is long enough for",
        "   two rows of it",
        "   • and nested words go on",
        "     over here",
        "4. x",
    ]


def test_items_that_all_are_one_are_counted() -> None:
    assert lines("1. a\n1. b\n\n1. c\n") == ["1. a", "2. b", "", "3. c"]


def test_a_list_nested_by_two_spaces_is_nested() -> None:
    assert lines("1. a\n  - b\n  - c\n2. d\n") == ["1. a", "   • b", "   • c", "2. d"]


def test_copied_code_is_the_code() -> None:
    answer = """\
        1. Run it:
           ```python
           def f(x):
               return x

           ```
        2. Done
        """
    assert lines(answer) == [
        "1. Run it:", "```python", "def f(x):", "    return x", "", "```", "2. Done",
    ]  # fmt: skip


def test_a_long_line_of_code_is_one_line() -> None:
    code = "x = '" + "y" * 60 + "'"
    assert f"\n{code}\n" in plain(f"```python\n{code}\n```\n", 40)
    terminal = shown(list(f"```python\n{code}\n```\n"), 40)
    assert terminal.rows() == ["```python", code[:40], code[40:], "```"]
    assert terminal.screen.buffer[1][6].fg == terminal.screen.buffer[2][3].fg == "green"


def test_a_fence_may_stay_open() -> None:
    assert lines("```c\nint x;") == ["```c", "int x;"]


def test_quotes_are_nested() -> None:
    assert lines("> a\n>\n> > b\n\nc\n") == ["│ a", "│", "│ │ b", "", "c"]


def test_a_table_is_aligned_to_what_is_seen() -> None:
    answer = """\
        | Name | Size |
        |:--|--:|
        | **中文** | 1 |
        | ✅ ok | 22 |
        """
    assert lines(answer) == ["Name   Size", "─────  ────", "中文      1", "✅ ok    22"]


def test_a_wide_table_wraps_its_cells_and_then_lists_its_fields() -> None:
    answer = "| Key | Text |\n|---|---|\n| a | some words that are too many |\n"
    assert lines(answer, 24) == [
        "Key  Text",
        "───  ───────────────────",
        "a    some words that are",
        "     too many",
    ]
    assert lines(answer, 8)[0] == "Key: a"


def test_a_table_without_colors_is_aligned_too() -> None:
    answer = (
        "| a | b |\n|---|---|\n| long cell | 1 |\n| x | 2 |\n| y | 3 |\n| longer than that | 4 |"
    )
    assert plain(answer).split("\n") == [
        "a          b",
        "---------  -",
        "long cell  1",
        "x          2",
        "y          3",
        "longer than that  4",
        "",
    ]


def test_words_wrap_and_a_url_is_left_whole() -> None:
    url = "https://a.example/" + "x" * 30
    assert plain(f"go to {url} now", 30).split("\n") == ["go to", f"{url} now", ""]


def test_lines_of_a_poem_stay_lines() -> None:
    assert lines("one\ntwo\n\n\n\nthree\n") == ["one", "two", "", "three"]


def test_latex_is_shown_as_it_is() -> None:
    for formula in (r"\(a_1 * b_2 * c\)", r"$x_1 \{ y * z * w$", "\\[\na * b * c \\\\\n\\]"):
        assert "\n".join(lines(formula)) == formula


def test_without_colors_markers_that_mean_something_stay() -> None:
    text = plain("# Title\n\n**bold** `rm x` ~~not~~\n- a\n> b\n")
    assert text == "# Title\n\nbold `rm x` ~~not~~\n- a\n> b\n"


def test_html_and_links_are_text() -> None:
    assert lines("<b>x</b> &lt;i&gt;") == ["<b>x</b> <i>"]
    terminal = shown("[name](https://a.example/)")
    assert terminal.rows() == ["name (https://a.example/)"]
    assert "\x1b]" not in terminal.sent


def test_what_never_closes_comes_out() -> None:
    for text in (
        "**bold",
        "a `code",
        "[link](http://x",
        "~~gone",
        "a [b",
        "$x",
        "<http://a",
        "&am",
    ):
        assert lines(text) == [text]


def test_what_is_fed_is_soon_seen() -> None:
    out: list[str] = []
    writer = MarkdownWriter(out.append, width=lambda: 80, height=lambda: 24, color=True)
    for text, seen in (
        ("Hello wor", "Hello"), ("ld and ", "world and"), ("```", "world and"), ("x\n", "x"),
        ("\n```py\nprin", "prin"), ("t(1", "print(1"), (")\n```\n| a |", "| a |"),
    ):  # fmt: skip
        writer.feed(text)
        assert "".join(out).rstrip().endswith(seen) or seen == "x"
    writer.end()


def test_long_bold_does_not_wait_for_its_end() -> None:
    out: list[str] = []
    writer = MarkdownWriter(out.append, width=lambda: 80, height=lambda: 24, color=True)
    writer.feed("**" + "word " * 20)
    assert "word" in "".join(out)
    writer.end()


@pytest.mark.parametrize("answer", ["```py\nreturn 1", "| a | b |\n|---|---|\n| 1 | 2 |\n| thr"])
def test_after_a_resize_nothing_is_written_again(answer: str) -> None:
    terminal = Terminal(40, 10)
    width = 40
    writer = MarkdownWriter(terminal.write, width=lambda: width, height=lambda: 10, color=True)
    writer.feed(answer)
    before = terminal.sent
    width = 30
    writer.feed("ee | 4 |\n")
    writer.end()
    after = terminal.sent.removeprefix(before)
    assert after.startswith("ee | 4 |\n")
    assert "\r" not in after
    assert "\x1b[J" not in after


def test_a_writer_takes_one_answer_after_another() -> None:
    terminal = Terminal()
    writer = MarkdownWriter(terminal.write, width=lambda: 80, height=lambda: 24, color=True)
    for answer in ("- a\n\n```py\nx", "b", "", "# c"):
        writer.feed(answer)
        writer.end()
    assert terminal.rows() == ["• a", "", "```py", "x", "b", "c"]


def test_direction_and_unseen_characters_do_not_deceive() -> None:
    assert plain("rm \u202eflesym\u202c a\u200bb\u00ad\ufeff c\ud800") == (
        "rm \ufffdflesym\ufffd ab c\ufffd\n"
    )


def test_tabs_become_spaces() -> None:
    assert plain("```make\na:\n\tb\nxy\tz\n```") == "```make\na:\n    b\nxy  z\n```\n"
