"""A result in the terminal: a row for each level, the verdict, and what the figures rest on.

A level with a problem has its text in place of figures, across the columns; where it has figures,
for it failed later, the text stands below. Which columns there are is ``fwlocal.bench.columns``'
part, how they fit a width ``fwlocal.tables``'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fwlocal.bench.columns import cells, is_measured, measures_of, named, problem_of
from fwlocal.bench.figures import counted
from fwlocal.bench.notes import facts, legend, not_numbers, ties_of
from fwlocal.bench.result import BenchResult, Difference, LevelResult, Verdict
from fwlocal.tables import GAP, MIN_FOLDED, Column, Table
from fwlocal.terminal import inert

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table as Grid

HIDDEN = "{} left out for want of room; --csv and --md have all"


@dataclass(frozen=True)
class LevelTable(Table):
    """``problems`` are texts in place of rows, by their index; such a row has a label alone.
    ``best`` is the row in bold."""

    problems: Mapping[int, str] = field(default_factory=dict)
    best: int | None = None

    def shown(self, console: Console) -> list[str]:
        """The headings of the columns that ``console`` has room for."""
        every = [column.heading for column in self.columns]
        return [every[i] for i in self.fitted(console.width)] if console.is_terminal else every

    def plain(self) -> str:
        """As of any table; a problem stands on its row's line."""
        from rich.cells import cell_len

        lines = super().plain().splitlines()
        start = self._natural(0) + GAP
        for index, problem in self.problems.items():
            line = lines[index + 1]
            lines[index + 1] = f"{line}{' ' * (start - cell_len(line))}{_one_line(problem)}"
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self.fitted(options.max_width)
        yield self._part(range(0), widths, show_header=True)
        start = 0
        for end in (*sorted(self.problems), len(self.rows)):
            if start < end:
                yield self._part(range(start, end), widths)
            if end in self.problems:
                yield self._problem(end, widths[0], options.max_width)
            start = end + 1

    def _part(self, which: range, widths: dict[int, int], *, show_header: bool = False) -> Grid:
        """Some of the rows, of one width with the others."""
        part = replace(self, rows=[self.rows[index] for index in which], problems={})
        grid = part._grid(widths)
        grid.show_header = show_header
        if self.best is not None and self.best in which:
            grid.rows[self.best - which.start].style = "bold"
        return grid

    def _problem(self, index: int, label_width: int, width: int) -> RenderableType:
        """The label and, across all that is left of the line, or below, what is wrong."""
        from rich.padding import Padding
        from rich.table import Table as Grid
        from rich.text import Text

        label = Text(_one_line(self.rows[index][0]), style="bold")
        problem = Text(_one_line(self.problems[index]))
        room = width - label_width - GAP
        if room < MIN_FOLDED:
            grid = Grid.grid(expand=False)
            grid.add_row(label)
            grid.add_row(Padding(problem, (0, 0, 0, min(GAP, width - 1))))
            return grid
        grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
        grid.add_column(width=label_width, overflow="fold")
        grid.add_column(width=room, overflow="fold")
        grid.add_row(label, problem)
        return grid


def level_table(
    levels: Sequence[LevelResult],
    differences: Sequence[Difference] = (),
    verdict: Verdict | None = None,
    pending: Sequence[str] = (),
) -> LevelTable:
    """A row for each level, best first; ``pending`` are labels of which nothing is known yet."""
    verdict = verdict or Verdict()
    measures = measures_of(levels)
    columns = [
        Column("LEVEL"),
        *(Column(one.heading, True, left_out=one.left_out) for one in measures),
    ]
    rows = [
        [named(level, verdict.front), *_cells(level, cells(level, measures, differences))]
        for level in levels
    ]
    rows += [[label, *("" for _ in measures)] for label in pending]
    labels = [level.label for level in levels]
    return LevelTable(
        columns,
        rows,
        {index: level.problem for index, level in enumerate(levels) if _is_blank(level)},
        labels.index(verdict.label) if verdict.label in labels else None,
    )


def show(result: BenchResult, console: Console) -> None:
    """All of it: the table, the verdict with its command, and the notes."""
    verdict = result.verdict
    table = level_table(result.levels, result.differences, verdict)
    table.show(console)
    shown = table.shown(console)
    if verdict.reason:
        say(console, "", verdict.reason, style="bold")
    if verdict.command:
        say(console, *([] if verdict.reason else [""]), f"  {verdict.command}")
    failed = [problem_of(level) for level in result.levels if is_measured(level)]
    remarks = [*filter(None, failed), *not_numbers(result), *ties_of(result, shown)]
    if n_hidden := len(table.columns) - len(shown):
        remarks.append(HIDDEN.format(counted(n_hidden, "column")))
    if remarks:
        say(console, "", *remarks)
    say(console, "", *legend(result, shown), *facts(result), style="dim")


def say(console: Console, *lines: str, style: str = "") -> None:
    """Lines of text, broken between words on a terminal and whole in a pipe."""
    from rich.text import Text

    for line in lines:
        console.print(Text(_one_line(line), style=style), soft_wrap=not console.is_terminal)


def _cells(level: LevelResult, found: list[str]) -> list[str]:
    """None where its problem stands in their place."""
    return ["" for _ in found] if _is_blank(level) else found


def _is_blank(level: LevelResult) -> bool:
    return bool(level.problem) and not is_measured(level)


def _one_line(text: str) -> str:
    return inert(text).replace("\n", " ").replace("\t", " ")
