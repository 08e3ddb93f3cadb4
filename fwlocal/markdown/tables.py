"""A table that grows: each row is shown as it comes and then put into its columns.

The row under way is shown as the model writes it. When it ends it takes its place, and where it
widens a column the rows above are written anew, while all of them are on the screen; afterwards
it is only the rows that follow that get the room. Without colours nothing is written twice: the
first rows are held back, so that they can be aligned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fwlocal.markdown.cells import cells, rows
from fwlocal.markdown.columns import Grid, Line, alignments, split_row
from fwlocal.markdown.inline import segments
from fwlocal.markdown.paper import Draft, Paper, Segment, text_of

HELD_ROWS = 4  # the heading and three more

_BREAK = re.compile(r"<br */?>", re.IGNORECASE)


class Table:
    """Lines that begin with ``|``. Until its second line is a row of dashes it may be text."""

    def __init__(self, paper: Paper, prefix: Sequence[Segment]) -> None:
        self._paper = paper
        self.prefix = list(prefix)
        self._size = paper.size
        self._draft: Draft | None = None
        self._line = ""
        self._source: list[str] = []
        self._grid: Grid | None = None
        self._shown: list[Line] = []
        self._floor = 0  # lines of ``_shown`` that cannot be written anew
        self._widths: list[int] | None = None
        self._holds = not paper.color

    @property
    def is_table(self) -> bool:
        """Whether it has its row of dashes."""
        return self._grid is not None

    def text(self, piece: str) -> None:
        """More of a line."""
        self._line += piece
        if self._paper.color:
            self._draft = self._draft or Draft(self._paper, self.prefix)
            self._draft.add(piece)

    def end_line(self) -> bool:
        """A row is complete; False when it cannot be a table."""
        line, self._line = self._line, ""
        if self._grid is not None:
            self._add(self._grid, line)
            return True
        self._source.append(line)
        if len(self._source) == 1:
            if self._draft is not None:
                self._draft.newline()
            return True
        heading = split_row(self._source[0])
        aligns = alignments(line, len(heading))
        if aligns is None:
            return False
        self._grid = Grid(aligns, self._paper.color)
        self._add(self._grid, self._source[0])
        return True

    def taken_back(self) -> list[str]:
        """The lines, which are no table and are shown no more; none where they have to stay."""
        if self._line:
            self._source.append(self._line)
        draft, self._draft = self._draft, None
        if draft is None:
            return self._source
        if not draft.can_be_replaced():
            if not self._paper.at_line_start:
                self._paper.newline()
            return []
        with draft.replaced():
            return self._source

    def close(self) -> None:
        """No row follows."""
        if self._line:
            self.end_line()
        if self._grid is not None and self._holds:
            self._release(self._grid)

    def _add(self, grid: Grid, line: str) -> None:
        cut = split_row(line)
        count = len(grid.aligns)
        if len(cut) > count:
            cut[count - 1 :] = [" | ".join(cut[count - 1 :])]
        grid.add([self._cell(cell) for cell in cut])
        if self._paper.color:
            self._place(grid, line)
        elif self._holds:
            if len(grid.rows) == HELD_ROWS:
                self._release(grid)
        else:
            self._put(grid.lines(len(grid.rows) - 1, self._fitted(grid)))

    def _cell(self, text: str) -> list[Line]:
        parts = [segments(part.strip(), "", not self._paper.color) for part in _BREAK.split(text)]
        return [part for part in parts if part]

    def _release(self, grid: Grid) -> None:
        """Show the rows that were held."""
        self._holds = False
        widths = self._fitted(grid)
        for index in range(len(grid.rows)):
            self._put(grid.lines(index, widths))

    def _fitted(self, grid: Grid) -> list[int] | None:
        return grid.fitted(self._paper.width - cells(text_of(self.prefix)))

    def _put(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._paper.line([*self.prefix, *line] if line else line)

    def _place(self, grid: Grid, line: str) -> None:
        """The row takes its place, where it can be written anew."""
        draft = self._draft or Draft(self._paper, self.prefix)
        self._draft = None
        last = len(grid.rows) - 1
        widths = self._fitted(grid)
        if last and widths == self._widths:
            lines = self._shown + grid.lines(last, widths)
        else:
            lines = [part for index in range(last + 1) for part in grid.lines(index, widths)]
        above = self._rows_from(lines)
        if above is None or not draft.can_be_replaced(above):
            if last == 0 or not draft.can_be_replaced():
                self._leave(line, widths)
                return
            above, lines = 0, self._shown + grid.lines(last, widths)
        kept = _common(self._shown, lines)
        with draft.replaced(above):
            self._put(lines[kept:])
        self._shown, self._widths = lines, widths

    def _rows_from(self, lines: list[Line]) -> int | None:
        """Rows of what is shown and differs from ``lines``; None where that is not certain."""
        kept = _common(self._shown, lines)
        changed = self._shown[kept:]
        if not changed:
            return 0
        if kept < self._floor or self._paper.size != self._size:
            return None
        total = 0
        for line in changed:
            taken = rows(text_of(self.prefix) + text_of(line), self._size[0])
            if taken is None:
                return None
            total += taken
        return total

    def _leave(self, line: str, widths: list[int] | None) -> None:
        """The row stays as it was written."""
        self._paper.newline()
        self._shown.append([("", line)])
        self._floor = len(self._shown)
        self._widths = widths


def _common(before: list[Line], after: list[Line]) -> int:
    """How many lines are the same at the beginning of both."""
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return index
    return min(len(before), len(after))
