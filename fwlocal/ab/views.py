"""Two answers on a screen while they are written: side by side, or one above the other.

Both only ever append. What an answer is, they do not know: they get headings, pieces of text that
may be marked, and the lines that stand under each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fwlocal.ab.marks import faint, painted, stretches, strong
from fwlocal.ab.wrapping import Line, Passage
from fwlocal.markdown.clean import clean

COLUMNS_FROM = 80  # cells of the screen
_RULE = " │ "

Write = Callable[[str], None]
Style = Callable[[Line], str]


class View(Protocol):
    """``side`` is 0 or 1. ``text`` is the model's own; after ``end``, whose ``facts`` are lines to
    stand under it, a side gets no more. ``close`` adds a last line for each, ``leave`` ends all at
    once."""

    def begin(self, headings: Sequence[str]) -> None: ...
    def text(self, side: int, text: str, *, marked: bool = False) -> None: ...
    def end(self, side: int, facts: Sequence[str]) -> None: ...
    def close(self, last: Sequence[str]) -> None: ...
    def leave(self) -> None: ...


class Columns:
    """Rows of two lines with a rule between them, each written as soon as both are certain; what
    stands under them comes when both have ended."""

    def __init__(self, write: Write, width: Callable[[], int], *, color: bool) -> None:
        self._write, self._width, self._color = write, width, color
        self._passages = (Passage(), Passage())
        self._facts: dict[int, Sequence[str]] = {}

    def begin(self, headings: Sequence[str]) -> None:
        """What stands above each."""
        self._whole_rows(headings, lambda line: strong(line.text, color=self._color))

    def text(self, side: int, text: str, *, marked: bool = False) -> None:
        """More of a side."""
        passage, shown = self._passages[side], clean(text)
        for part, is_marked in stretches(shown, color=self._color) if marked else [(shown, False)]:
            passage.add(part, marked=is_marked)
        self._rows(self._passages, self._painted)

    def end(self, side: int, facts: Sequence[str]) -> None:
        """A side has ended."""
        self._facts[side] = facts
        self._passages[side].end()
        self._rows(self._passages, self._painted)

    def close(self, last: Sequence[str]) -> None:
        """What is known of each, below a rule."""
        half = self._half()
        self._write(f"{'─' * half}─┼─{'─' * half}\n")
        texts = ["\n".join([*self._facts[side], last[side]]) for side in (0, 1)]
        self._whole_rows(texts, lambda line: faint(line.text, color=self._color))

    def leave(self) -> None:
        """Show what there is."""
        for passage in self._passages:
            passage.end()
        self._rows(self._passages, self._painted)

    def _painted(self, line: Line) -> str:
        return painted(line, color=self._color)

    def _half(self) -> int:
        return max(1, (self._width() - len(_RULE)) // 2)

    def _whole_rows(self, texts: Sequence[str], style: Style) -> None:
        passages = (Passage(), Passage())
        for passage, text in zip(passages, texts, strict=True):
            passage.add(clean(text))
            passage.end()
        self._rows(passages, style)

    def _rows(self, passages: Sequence[Passage], style: Style) -> None:
        """Write the rows that are certain on both sides, at the width that there is now."""
        half = self._half()
        while all(p.is_done or p.has_line(half) for p in passages):
            left, right = (p.take(half) or Line("") for p in passages)
            if all(p.is_done for p in passages) and not (left.text or right.text):
                return
            self._write(f"{style(left)}{_padding(left, half)}{_RULE}{style(right)}".rstrip() + "\n")


class Stacked:
    """The first as it comes, wrapped by the terminal, then the second, which may have been written
    meanwhile."""

    def __init__(self, write: Write, width: Callable[[], int], *, color: bool) -> None:
        self._write, self._width, self._color = write, width, color
        self._headings: Sequence[str] = ()
        self._now = 0  # the side that is being shown
        self._at_line_start = True
        self._waiting: list[Callable[[], None]] = []  # of the second side

    def begin(self, headings: Sequence[str]) -> None:
        """What stands above each."""
        self._headings = headings
        self._heading(0)

    def text(self, side: int, text: str, *, marked: bool = False) -> None:
        """More of a side."""
        if side != self._now:
            self._waiting.append(lambda: self.text(side, text, marked=marked))
            return
        shown = clean(text)
        for part, is_marked in stretches(shown, color=self._color) if marked else [(shown, False)]:
            line = Line(part, (0, len(part)) if is_marked else None)
            self._put(painted(line, color=self._color))

    def end(self, side: int, facts: Sequence[str]) -> None:
        """A side has ended; after the first, the second is shown."""
        if side != self._now:
            self._waiting.append(lambda: self.end(side, facts))
            return
        self._new_line()
        self._lines(facts)
        if side == 0:
            self._now = 1
            self._heading(1)
            waiting, self._waiting = self._waiting, []
            for show in waiting:
                show()

    def close(self, last: Sequence[str]) -> None:
        """How far both are the same: once where that is the same for both."""
        named = zip(self._headings, last, strict=True)
        self._lines(last[:1] if len({*last}) == 1 else [f"{name}: {text}" for name, text in named])

    def leave(self) -> None:
        """Show what there is."""
        self._new_line()

    def _lines(self, lines: Sequence[str]) -> None:
        passage = Passage()
        passage.add(clean("\n".join(lines)))
        passage.end()
        while (line := passage.take(self._width())) is not None:
            self._write(f"{faint(line.text, color=self._color)}\n")

    def _heading(self, side: int) -> None:
        before = "\n" if side else ""
        self._write(f"{before}{strong(clean(self._headings[side]), color=self._color)}\n")

    def _put(self, text: str) -> None:
        if text:
            self._write(text)
            self._at_line_start = text.endswith("\n")

    def _new_line(self) -> None:
        if not self._at_line_start:
            self._put("\n")


def view_for(write: Write, width: Callable[[], int], *, color: bool) -> View:
    """Side by side where the screen is wide enough for it."""
    if width() >= COLUMNS_FROM:
        return Columns(write, width, color=color)
    return Stacked(write, width, color=color)


def _padding(line: Line, width: int) -> str:
    from rich.cells import cell_len

    return " " * max(0, width - cell_len(line.text))
