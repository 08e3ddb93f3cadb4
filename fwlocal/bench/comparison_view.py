"""Two runs side by side, for people: every measure of both, and what of it is a difference.

As a table in the terminal and as Markdown. What is noise ``fwlocal.bench.comparison`` has decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fwlocal.bench.figures import beside, change
from fwlocal.bench.markdown import bullets, escaped
from fwlocal.bench.markdown import table as markdown_table
from fwlocal.bench.table import say
from fwlocal.sizes import gib
from fwlocal.tables import Column, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

    from fwlocal.bench.comparison import Comparison, Row

NOISE = "noise"
INTERVAL = "DIFFERENCE: B less A, with the interval that 95 % of resamples lie in; noise holds zero"

# What the measures are called here; others keep their names.
NAMES: Mapping[str, str] = {
    "ppl": "PPL",
    "ppl_ratio": "PPL ratio",
    "kld_mean": "KLD",
    "kld_median": "KLD median",
    "kld_95": "KLD 95 %",
    "kld_99": "KLD 99 %",
    "kld_99_9": "KLD 99.9 %",
    "top1": "TOP-1",
    "dp_mean": "Δp mean",
    "dp_rms": "Δp RMS",
    "load_warm": "load, warm",
    "load_cold": "load, cold",
    "prefill_energy": "prefill",
    "decode_energy": "decode",
    "same_answers": "same answers",
}

# What B is when it has more, or less, by the measure, else by the unit.
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "tok/s": ("faster", "slower"),
    "s": ("slower", "faster"),
    "B": ("larger", "smaller"),
    "nats": ("worse", "better"),
    "ppl": ("worse", "better"),
    "ppl_ratio": ("worse", "better"),
    "top1": ("better", "worse"),
    "dp_rms": ("worse", "better"),
    "same_answers": ("better", "worse"),
}
ANY = ("more", "less")

COLUMNS = (
    Column("LEVEL"),
    Column("MEASURE"),
    Column("A", right=True, left_out=2),
    Column("B", right=True, left_out=3),
    Column("DIFFERENCE", right=True, left_out=4),
    Column("%", right=True, left_out=1),
    Column("B IS"),
)


@dataclass(frozen=True)
class RowsTable(Table):
    """A table that has some rows in bold and the others dim."""

    bold: frozenset[int] = frozenset()

    def _grid(self, widths: dict[int, int]) -> Grid:
        grid = super()._grid(widths)
        for index, row in enumerate(grid.rows):
            row.style = "bold" if index in self.bold else "dim"
        return grid


def show(comparison: Comparison, console: Console) -> None:
    """What differs around the runs, the table, and what it comes to."""
    say(console, *_before(comparison), "")
    rows = comparison.rows
    differ = frozenset(index for index, row in enumerate(rows) if not row.is_noise)
    RowsTable(COLUMNS, [_cells(row) for row in rows], differ).show(console)
    say(console, "", *_after(comparison))
    say(console, INTERVAL, style="dim")


def markdown(comparison: Comparison) -> str:
    """The same for a README; what is no noise is in bold."""
    headings = [column.heading for column in COLUMNS]
    rows = [_markdown_cells(row) for row in comparison.rows]
    blocks = (
        bullets(_before(comparison)),
        markdown_table(headings, rows),
        bullets((*_after(comparison), INTERVAL)),
    )
    return "\n".join(blocks)


def _before(comparison: Comparison) -> list[str]:
    names = (f"A: {comparison.a_name}", f"B: {comparison.b_name}")
    return [*names, *comparison.contexts]


def _after(comparison: Comparison) -> Iterator[str]:
    n_differ = sum(not row.is_noise for row in comparison.rows)
    n_noise = len(comparison.rows) - n_differ
    if comparison.rows:
        yield f"{n_differ} of {n_differ + n_noise} measures differ; {n_noise} are noise"
    else:
        yield "the two runs have no measure of the same level in common"
    for name, labels in (("A", comparison.only_a), ("B", comparison.only_b)):
        if labels:
            yield f"only in {name}: {', '.join(labels)}"


def _cells(row: Row) -> tuple[str, ...]:
    figures = _bytes(row) if row.unit == "B" else _numbers(row)
    return (row.label, _measure(row), *figures, _percent(row), _outcome(row))


def _markdown_cells(row: Row) -> Sequence[str]:
    cells = [escaped(cell) for cell in _cells(row)]
    if not row.is_noise:
        cells[4] = f"**{cells[4]}**"
        cells[6] = f"**{cells[6]}**"
    return cells


def _measure(row: Row) -> str:
    """With its unit, unless the figures have one."""
    unit = {"share": "%", "B": ""}.get(row.unit, row.unit)
    name = NAMES.get(row.measure, row.measure)
    return f"{name}, {unit}" if unit else name


def _numbers(row: Row) -> tuple[str, str, str]:
    """Both figures and the difference, with the digits that its interval leaves."""
    times = 100 if row.unit == "share" else 1
    half = times * (row.high - row.low) / 2
    return (
        beside(times * row.a, half),
        beside(times * row.b, half),
        change(times * row.difference, times * row.low, times * row.high),
    )


def _bytes(row: Row) -> tuple[str, str, str]:
    sign = "-" if row.difference < 0 else "+"
    return gib(row.a), gib(row.b), f"{sign}{gib(abs(row.difference))}"


def _percent(row: Row) -> str:
    """The difference as a share of A; "" of what is a share or near zero."""
    if row.unit in ("share", "nats") or row.a <= 0:
        return ""
    return f"{row.difference / row.a:+.1%}".rstrip("%")


def _outcome(row: Row) -> str:
    if row.is_noise:
        return NOISE
    more, less = OUTCOMES.get(row.measure) or OUTCOMES.get(row.unit) or ANY
    return more if row.difference > 0 else less
