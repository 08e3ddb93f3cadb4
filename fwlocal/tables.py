"""Rows under headings: as wide as the terminal allows, or, in a pipe, a whole line for each.

On a narrow terminal columns are left out, and some cells are broken, but only between words, until
nothing else helps. What is in the cells, this module does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fwlocal.terminal import inert

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table as Grid
    from rich.text import Text

GAP = 2  # columns of the terminal between two of the table
MIN_FOLDED = 16


@dataclass(frozen=True)
class Column:
    """``folds``: its cells may take several lines; ``left_out`` says when the column is dropped:
    1 is the first to go, 0 never goes."""

    heading: str
    right: bool = False
    folds: bool = False
    left_out: int = 0


@dataclass(frozen=True)
class Table:
    """``rows`` have a cell for each of ``columns``."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    def show(self, console: Console) -> None:
        """Print it, fitted to a terminal or else plain."""
        if console.is_terminal:
            console.print(self)
        else:
            console.file.write(self.plain())

    def plain(self) -> str:
        """A line for each row, with all columns, as wide as they need to be."""
        widths = [self._natural(index) for index in range(len(self.columns))]
        lines = [
            (" " * GAP).join(
                _padded(cell, width, right=column.right)
                for column, cell, width in zip(self.columns, cells, widths, strict=True)
            )
            for cells in self._lines()
        ]
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._grid(self.fitted(options.max_width))

    def fitted(self, width: int) -> dict[int, int]:
        """The width of each column shown, by its index, on a terminal ``width`` columns wide."""
        least = {index: self._least(index) for index in range(len(self.columns))}
        for index in sorted(least, key=lambda index: self.columns[index].left_out):
            if self.columns[index].left_out and _total(least) > width:
                del least[index]
        spare = max(0, width - _total(least))
        for index, taken in least.items():
            more = min(spare, self._natural(index) - taken)
            least[index] += more
            spare -= more
        while _total(least) > width and max(least.values()) > 1:  # names must be broken
            least[max(least, key=lambda index: least[index])] -= 1
        return least

    def _grid(self, widths: dict[int, int]) -> Grid:
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
        for index, width in widths.items():
            column = self.columns[index]
            grid.add_column(
                Text(column.heading),
                width=width,
                overflow="fold",
                justify="right" if column.right else "left",
            )
        for row in self.rows:
            cells = (Text(_one_line(row[index])) for index in widths)
            grid.add_row(*(_styled(cell, index) for index, cell in enumerate(cells)))
        return grid

    def _lines(self) -> list[list[str]]:
        """The headings and the rows."""
        headings = [column.heading for column in self.columns]
        return [headings, *([_one_line(cell) for cell in row] for row in self.rows)]

    def _natural(self, index: int) -> int:
        """Wide enough for every cell."""
        return max(_width(cells[index]) for cells in self._lines())

    def _least(self, index: int) -> int:
        """As narrow as it may be before columns are left out."""
        natural = self._natural(index)
        if not self.columns[index].folds:
            return natural
        words = (word for cells in self._lines() for word in cells[index].split())
        longest = max(map(_width, words), default=0)
        return min(natural, max(longest, MIN_FOLDED) if longest <= 2 * MIN_FOLDED else MIN_FOLDED)


def _styled(cell: Text, index: int) -> Text:
    cell.stylize("bold" if index == 0 else "")
    return cell


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * max(0, len(widths) - 1)


def _one_line(cell: str) -> str:
    return inert(cell).replace("\n", " ").replace("\t", " ")


def _padded(cell: str, width: int, *, right: bool) -> str:
    padding = " " * (width - _width(cell))
    return f"{padding}{cell}" if right else f"{cell}{padding}"


def _width(text: str) -> int:
    """Columns of the terminal, which are two for some characters."""
    from rich.cells import cell_len

    return cell_len(text)
