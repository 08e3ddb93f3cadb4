"""The answer on the screen: lines are opened, and their text goes to what they opened."""

from __future__ import annotations

import re
from collections.abc import Callable

from fwlocal.markdown.blocks import (
    Opening,
    Verbatim,
    open_line,
    quote_end,
    verbatim_line,
)
from fwlocal.markdown.cells import cells
from fwlocal.markdown.clean import Cleaner
from fwlocal.markdown.leaves import Code, Heading, Indented, Leaf, Paragraph
from fwlocal.markdown.nesting import Nesting
from fwlocal.markdown.paper import Paper, text_of
from fwlocal.markdown.styles import FAINT, RULE, RULE_CELLS, RULE_PLAIN
from fwlocal.markdown.tables import Table

TAB = 4
_LINES = re.compile(r"\n|[^\n]+")


class MarkdownWriter:
    """``write`` gets text for the terminal, whose cursor is at the start of a row; ``width`` and
    ``height`` are its columns and rows, asked again as it may be resized. Without ``color`` there
    is no escape sequence at all, and nothing is written twice."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        width: Callable[[], int],
        height: Callable[[], int],
        color: bool,
    ) -> None:
        self._cleaner = Cleaner()
        self._paper = Paper(write, width, height, color)
        self._begin()

    def _begin(self) -> None:
        self._nesting = Nesting(self._paper)
        self._leaf: Leaf | None = None
        self._head = ""  # the start of a line that has not opened anything yet
        self._is_open = False  # whether the line has
        self._is_done = False  # whether its end says nothing more to the leaf
        self._col = 0
        self._owes_blank = False
        self._paper.is_blank = True

    def feed(self, text: str) -> None:
        """More of the answer, as the model gives it."""
        self._feed(self._cleaner.feed(text))
        self._paper.flush()

    def end(self) -> None:
        """The answer is complete: what was held back is shown, and the cursor is at the start of
        a row. What is fed next is another answer."""
        self._feed(self._cleaner.end())
        if self._col or self._head:
            self._end_line()
        self._close()
        self._nesting.leave(0)
        if not self._paper.at_line_start:
            self._paper.newline()
        self._paper.flush()
        self._begin()

    def _feed(self, text: str) -> None:
        for piece in _LINES.findall(text):
            if piece == "\n":
                self._end_line()
            elif "\t" in piece:
                for part in re.findall(r"\t|[^\t]+", piece):
                    self._text(" " * (TAB - self._col % TAB) if part == "\t" else part)
            else:
                self._text(piece)

    def _text(self, piece: str) -> None:
        """More of the line."""
        self._col += len(piece) if piece.isascii() else sum(map(cells, piece))
        start = 0
        while not self._is_open and start < len(piece):
            self._head += piece[start]
            start += 1
            self._try_to_open(is_whole=False)
        if start < len(piece) and self._leaf is not None:
            self._leaf.text(piece[start:])

    def _end_line(self) -> None:
        if not self._is_open:
            self._try_to_open(is_whole=True)
        self._head, self._is_open, self._col = "", False, 0
        is_done, self._is_done = self._is_done, False
        leaf = self._leaf
        if leaf is None or is_done or leaf.end_line():
            return
        if isinstance(leaf, Table):
            self._leaf = self._as_paragraph(leaf)
        else:
            self._close()

    def _try_to_open(self, is_whole: bool) -> None:
        """See what the line is, if that can be told, and give its text to what it opens."""
        if isinstance(self._leaf, Code) and not isinstance(self._leaf, Indented):
            if not self._go_on_verbatim(self._leaf, is_whole):
                return
            if self._is_open:
                return
        in_paragraph = isinstance(self._leaf, Paragraph)
        opening = open_line(self._head, is_whole, self._nesting.containers, in_paragraph)
        if opening is None:
            return
        self._is_open = True
        self._open(opening)

    def _go_on_verbatim(self, leaf: Code, is_whole: bool) -> bool:
        """Whether the line is decided; one outside the block is still to be opened."""
        found = verbatim_line(self._head, is_whole, leaf.verbatim)
        if found is None:
            return False
        part, at = found
        if part == "leave":
            self._close()
            return True
        self._is_open = True
        if part == "close":
            leaf.close_fence()
            self._leaf = None
        elif self._head[at:]:
            leaf.text(self._head[at:])
        return True

    def _open(self, opening: Opening) -> None:
        if opening.kind == "blank":
            self._close()
            self._nesting.leave(opening.matched)
            self._nesting.enter(opening.new)
            self._owes_blank = self._owes_blank or not opening.new
            return
        if not self._goes_on(opening):
            self._close()
            self._nesting.leave(opening.matched)
            self._space(opening)
            self._nesting.enter(opening.new)
            self._leaf = _OPENERS[opening.kind](self, opening)
        text = self._head[opening.at :]
        if text and self._leaf is not None:
            self._leaf.text(text)

    def _goes_on(self, opening: Opening) -> bool:
        """Whether the line belongs to the block that is open. Text may, without the indentation of
        its list and the marker of its quote."""
        leaf = self._leaf
        if opening.new:
            return False
        if opening.kind == "text":
            return isinstance(leaf, Paragraph)
        kind = {"table": Table, "indented": Indented}.get(opening.kind)
        is_same = opening.matched == len(self._nesting.containers)
        return kind is not None and isinstance(leaf, kind) and is_same

    def _space(self, opening: Opening) -> None:
        """The empty line before a block: the model's own, and one before each heading."""
        owes, self._owes_blank = self._owes_blank, False
        if (owes or opening.kind == "heading") and not self._paper.is_blank:
            self._paper.line(self._nesting.bare(self._nesting.bars(opening.matched)))
            self._paper.is_blank = True

    def _paragraph(self, _: Opening) -> Leaf:
        return Paragraph(self._paper, *self._nesting.prefixes())

    def _heading(self, opening: Opening) -> Leaf:
        return Heading(self._paper, *self._nesting.prefixes(), opening.level)

    def _rule(self, _: Opening) -> None:
        first, _rest = self._nesting.prefixes()
        room = self._paper.width - cells(text_of(first))
        mark = RULE if self._paper.color else RULE_PLAIN
        self._paper.line([*first, (FAINT, mark * max(1, min(room, RULE_CELLS)))])

    def _table(self, _: Opening) -> Leaf:
        self._nesting.show_markers()
        return Table(self._paper, self._nesting.prefixes()[1])

    def _indented(self, _: Opening) -> Leaf:
        self._nesting.show_markers()
        return Indented(self._paper, self._nesting.prefixes()[1])

    def _formula(self, opening: Opening) -> Leaf:
        self._nesting.show_markers()
        verbatim = Verbatim(self._nesting.n_quotes, end=opening.info)
        return Code(self._paper, self._nesting.prefixes()[1], verbatim)

    def _fence(self, opening: Opening) -> Leaf:
        """Code begins at the left edge, in a list too: what is copied is the code."""
        owes_marker = self._nesting.owes_marker
        first, _ = self._nesting.prefixes()
        n_quotes = self._nesting.n_quotes
        at: int | None = 0
        for _ in range(n_quotes):
            at = None if at is None else quote_end(self._head, at)
        fence, info = opening.info[: opening.level], opening.info[opening.level :].strip()
        verbatim = Verbatim(n_quotes, fence, info, 0 if at is None else opening.indent - at)
        leaf = Code(self._paper, self._nesting.bars(), verbatim)
        leaf.open(first if owes_marker else self._nesting.bars(), opening.info)
        self._is_done = True
        self._head = self._head[: opening.at]
        return leaf

    def _as_paragraph(self, table: Table) -> Paragraph:
        """Lines that looked like a table, as text."""
        lines = table.taken_back()
        paragraph = Paragraph(self._paper, table.prefix, table.prefix)
        for line in lines:
            paragraph.text(line)
            paragraph.end_line()
        return paragraph

    def _close(self) -> None:
        leaf, self._leaf = self._leaf, None
        if isinstance(leaf, Table) and not leaf.is_table:
            leaf = self._as_paragraph(leaf)
        if leaf is not None:
            leaf.close()


_OPENERS: dict[str, Callable[[MarkdownWriter, Opening], Leaf | None]] = {
    "text": MarkdownWriter._paragraph,
    "heading": MarkdownWriter._heading,
    "rule": MarkdownWriter._rule,
    "fence": MarkdownWriter._fence,
    "table": MarkdownWriter._table,
    "math": MarkdownWriter._formula,
    "indented": MarkdownWriter._indented,
}


class PlainWriter:
    """The answer as it comes, only without what could drive the terminal."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._cleaner = Cleaner()
        self._ends_line = True

    def feed(self, text: str) -> None:
        """More of the answer."""
        self._put(self._cleaner.feed(text))

    def end(self) -> None:
        """The answer is complete; the cursor is at the start of a row."""
        self._put(self._cleaner.end())
        if not self._ends_line:
            self._put("\n")

    def _put(self, text: str) -> None:
        if text:
            self._ends_line = text.endswith("\n")
            self._write(text)
