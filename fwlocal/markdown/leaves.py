"""What is in lists and quotes: paragraphs, headings, code, formulas.

Each takes the text of its lines as it comes, without the markers around it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from fwlocal.markdown.blocks import Verbatim
from fwlocal.markdown.flow import Flow
from fwlocal.markdown.inline import Inline
from fwlocal.markdown.nesting import Nesting
from fwlocal.markdown.paper import Draft, Paper, Segment
from fwlocal.markdown.styles import FAINT, HEADINGS, MARKER
from fwlocal.markdown.syntax import Highlighter, highlighter

_CLOSING_HASHES = re.compile(r" +#*\Z| *\Z")


class Leaf(Protocol):
    """What a line's text goes to."""

    def text(self, piece: str) -> None:
        """More of a line."""

    def end_line(self) -> bool:
        """The line is complete; False when nothing more belongs here."""

    def close(self) -> None:
        """Nothing follows."""


class Paragraph:
    """Words in rows; a newline of the model ends a row."""

    def __init__(
        self, paper: Paper, first: Sequence[Segment], rest: Sequence[Segment], base: str = ""
    ) -> None:
        self._flow = Flow(paper, first, rest)
        self._inline = Inline(self._flow.add, base, keeps_markers=not paper.color)
        self._owes_newline = False

    def text(self, piece: str) -> None:
        """More of a line."""
        if self._owes_newline:
            self._inline.feed("\n")
            self._owes_newline = False
        self._inline.feed(piece)

    def end_line(self) -> bool:
        """The line is complete; what it holds back may end on the next."""
        self._owes_newline = True
        return True

    def close(self) -> None:
        """The end of the paragraph."""
        self._inline.end()
        self._flow.newline()


class Heading(Paragraph):
    """One line of ``level`` 1 to 6, without the hashes that may end it."""

    def __init__(
        self, paper: Paper, first: Sequence[Segment], rest: Sequence[Segment], level: int
    ) -> None:
        style = HEADINGS[level - 1]
        if not paper.color:
            first = [*first, ("", "#" * level + " ")]
        super().__init__(paper, first, rest, style)
        self._held = ""

    def text(self, piece: str) -> None:
        """More of the line."""
        text = self._held + piece
        match = _CLOSING_HASHES.search(text)
        cut = match.start() if match else len(text)
        self._held = text[cut:]
        super().text(text[:cut])

    def end_line(self) -> bool:
        """The line is the heading."""
        return False


class Code:
    """Lines as they are, each in its colours when it is complete.

    ``verbatim`` says how its lines are read. A line that is longer than the screen is broken by the
    terminal, which copies it whole.
    """

    def __init__(self, paper: Paper, prefix: Sequence[Segment], verbatim: Verbatim) -> None:
        self.verbatim = verbatim
        self._paper = paper
        self._prefix = prefix
        self._draft: Draft | None = None
        self._line = ""
        self._is_first = True
        self._highlighter: Highlighter | None = None
        if paper.color and verbatim.fence:
            self._highlighter = highlighter(verbatim.info)

    def open(self, first: Sequence[Segment], shown: str) -> None:
        """Show the fence."""
        self._paper.line([*first, (MARKER, shown.rstrip(" "))])

    def text(self, piece: str) -> None:
        """More of a line."""
        if self._draft is None:
            self._draft = Draft(self._paper, self._prefix)
        self._line += piece
        self._draft.add(piece)

    def end_line(self) -> bool:
        """Colour the line."""
        line, self._line = self._line.rstrip(" "), ""
        draft, self._draft = self._draft, None
        colored = self._highlighter.line(line) if self._highlighter else []
        if draft is not None and any(style for style, _ in colored) and draft.can_be_replaced():
            with draft.replaced(erase=False):
                for segment in (*self._prefix, *colored):
                    self._paper.put(*segment)
        if line:
            self._paper.newline()
        else:
            self._paper.line(Nesting.bare(self._prefix))
        is_first, self._is_first = self._is_first, False
        return not self.verbatim.ends(line, is_first)

    def close(self) -> None:
        """The end of the block; its fence may be missing."""
        if self._draft is not None:
            self.end_line()

    def close_fence(self) -> None:
        """The fence that ends it."""
        self._paper.line([*self._prefix, (FAINT, self.verbatim.fence)])


class Indented(Code):
    """Code by its indentation, which it keeps."""

    def __init__(self, paper: Paper, prefix: Sequence[Segment]) -> None:
        super().__init__(paper, prefix, Verbatim(0))
