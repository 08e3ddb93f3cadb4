"""A model's answer, shown as Markdown while it comes.

    clean    what could drive or deceive a terminal is made visible
    blocks   what the start of a line opens: a heading, an item, a fence, ...
    inline   emphasis, code and links within a block
    flow     words into rows
    tables   rows into aligned columns
    syntax   the colours of code
    paper    what is written, and the little of it that is written again
    writer   all of them together

What is written stays: only the line of code or the table that is still growing is written anew in
its place. So nothing flickers, a resize is harmless, and what is copied is what was said. It reads
CommonMark as models write it, which is nearly all of it; a line break stays a line break.
"""

from fwlocal.markdown.writer import MarkdownWriter, PlainWriter

__all__ = ["MarkdownWriter", "PlainWriter"]
