"""Two runs side by side, for people: every measure of both, and what of it is a difference.

As a table in the terminal and as Markdown. What is noise ``fwlocal.bench.comparison`` has decided;
where a level has more of it than a few rows, it is counted instead of shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fwlocal.bench.figures import LARGEST_PPL, alone, beside, change, counted, perplexity
from fwlocal.bench.markdown import bullets, escaped
from fwlocal.bench.markdown import table as markdown_table
from fwlocal.bench.statistics import UNKNOWN_SPREAD
from fwlocal.bench.table import say
from fwlocal.sizes import gib
from fwlocal.tables import Column, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

    from fwlocal.bench.comparison import Comparison, Row

NOISE, SAME = "noise", "same"
FEW = 3  # rows of a level that are no difference, and are shown all the same
DIFFERENCE = "DIFFERENCE: B less A"
INTERVAL = "INTERVAL: where the difference, B less A, lies at 95 %; noise holds zero"
ASSUMED = f"measured once in a run: ± {UNKNOWN_SPREAD:.0%} is taken for the interval of {{}}"
LEFT_OUT = "left out for want of room: {}; --md has all"

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
    Column("A", right=True, left_out=4),
    Column("B", right=True, left_out=5),
    Column("DIFFERENCE", right=True),
    Column("INTERVAL", right=True, left_out=1),
    Column("%", right=True, left_out=2),
    Column("B IS", left_out=3),
)
N_NAMES = 2  # columns of words, to the left


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
    rows = _shown(comparison)
    differ = frozenset(index for index, row in enumerate(rows) if not row.is_noise)
    table = RowsTable(COLUMNS, [_cells(row) for row in rows], differ)
    left_out: list[str] = []
    if rows:
        table.show(console)
        say(console, "")
        fitted = table.fitted(console.width) if console.is_terminal else range(len(COLUMNS))
        left_out = [one.heading for index, one in enumerate(COLUMNS) if index not in fitted]
    say(console, *_after(comparison))
    if left_out:
        say(console, LEFT_OUT.format(", ".join(left_out)))
    notes = [DIFFERENCE] if "INTERVAL" in left_out else _explained(rows)
    say(console, *notes, style="dim")


def markdown(comparison: Comparison) -> str:
    """The same for a README; what is no noise is in bold."""
    headings = [column.heading for column in COLUMNS]
    rows = _shown(comparison)
    cells = [_markdown_cells(row) for row in rows]
    blocks = (
        bullets(_before(comparison)),
        markdown_table(headings, cells, N_NAMES) if rows else "",
        bullets((*_after(comparison), *_explained(rows))),
    )
    return "\n".join(filter(None, blocks))


def _shown(comparison: Comparison) -> list[Row]:
    """The differences; and the others of levels that have a few of them."""
    counted_ = {label for label, rows in _alike(comparison).items() if len(rows) > FEW}
    return [row for row in comparison.rows if not row.is_noise or row.label not in counted_]


def _alike(comparison: Comparison) -> dict[str, list[Row]]:
    """By level, what is no difference."""
    found: dict[str, list[Row]] = {}
    for row in comparison.rows:
        if row.is_noise:
            found.setdefault(row.label, []).append(row)
    return found


def _before(comparison: Comparison) -> list[str]:
    names = (f"A: {comparison.a_name}", f"B: {comparison.b_name}")
    return [*names, *comparison.contexts]


def _after(comparison: Comparison) -> Iterator[str]:
    rows = comparison.rows
    if rows:
        n_differ = sum(not row.is_noise for row in rows)
        yield f"{n_differ} of {counted(len(rows), 'measure')} differ{_s(n_differ)}{_rest(rows)}"
    else:
        yield "the two runs have no measure of the same level in common"
    for label, alike in _alike(comparison).items():
        if len(alike) > FEW:
            yield f"{label}: {_not_shown(alike)}"
    for name, labels in (("A", comparison.only_a), ("B", comparison.only_b)):
        if labels:
            yield f"only in {name}: {', '.join(labels)}"


def _rest(rows: Sequence[Row]) -> str:
    """How many of the others are which."""
    n_same = sum(row.is_noise and row.is_same for row in rows)
    n_noise = sum(row.is_noise for row in rows) - n_same
    told = (
        f"{n_noise} {'is' if n_noise == 1 else 'are'} noise" if n_noise else "",
        f"{n_same} {'is' if n_same == 1 else 'are'} the same" if n_same else "",
    )
    return "".join(f"; {one}" for one in told if one)


def _not_shown(rows: Sequence[Row]) -> str:
    """A level's rows that are no difference, in words."""
    n_same = sum(row.is_same for row in rows)
    n_noise = len(rows) - n_same
    told = (
        f"{counted(n_noise, 'figure')} differ{_s(n_noise)} by no more than noise"
        if n_noise
        else "",
        f"{counted(n_same, 'figure')} {'is' if n_same == 1 else 'are'} the same" if n_same else "",
    )
    return ", ".join(filter(None, told))


def _s(count: int) -> str:
    """A verb's, of one thing."""
    return "s" if count == 1 else ""


def _explained(rows: Sequence[Row]) -> Iterator[str]:
    """What the intervals of these rows are."""
    uncertain = [row for row in rows if _has_interval(row)]
    if any(not row.is_assumed for row in uncertain):
        yield INTERVAL
    assumed = dict.fromkeys(NAMES.get(row.measure, row.measure) for row in uncertain
                            if row.is_assumed)  # fmt: skip
    if assumed:
        yield ASSUMED.format(", ".join(assumed))


def _has_interval(row: Row) -> bool:
    return row.unit != "B" and not row.is_same


def _cells(row: Row) -> tuple[str, ...]:
    figures = _bytes(row) if row.unit == "B" else _numbers(row)
    return (row.label, _measure(row), *figures, _percent(row), _outcome(row))


def _markdown_cells(row: Row) -> Sequence[str]:
    cells = [escaped(cell) for cell in _cells(row)]
    if not row.is_noise:
        cells[4] = f"**{cells[4]}**"
        cells[7] = f"**{cells[7]}**"
    return cells


def _measure(row: Row) -> str:
    """With its unit, unless the figures have one."""
    unit = {"share": "%", "B": ""}.get(row.unit, row.unit)
    name = NAMES.get(row.measure, row.measure)
    return f"{name}, {unit}" if unit else name


def _numbers(row: Row) -> tuple[str, str, str, str]:
    """Both figures, with the digits that their standard errors leave, and the difference and its
    interval, with those that the interval leaves."""
    times = 100 if row.unit == "share" else 1
    a, b = _figure(row, row.a, row.a_se, times), _figure(row, row.b, row.b_se, times)
    if row.is_same:
        return a, b, "0", ""
    if row.measure == "ppl" and max(row.a, row.b) >= LARGEST_PPL:
        return a, b, "", ""
    difference, _, interval = change(
        times * row.difference, times * row.low, times * row.high
    ).partition(" (")
    return a, b, difference, interval.rstrip(")")


def _figure(row: Row, value: float, se: float | None, times: int) -> str:
    if row.unit == "" and value >= LARGEST_PPL:
        return perplexity(value)
    if se is not None or row.is_same:
        return alone(times * value, times * (se or 0.0))
    return beside(times * value, times * (row.high - row.low) / 2)


def _bytes(row: Row) -> tuple[str, str, str, str]:
    sign = "-" if row.difference < 0 else "+"
    return gib(row.a), gib(row.b), f"{sign}{gib(abs(row.difference))}", ""


def _percent(row: Row) -> str:
    """The difference as a share of A; "" of what is a share or near zero."""
    if row.unit in ("share", "nats") or row.a <= 0 or row.is_same:
        return ""
    return f"{row.difference / row.a:+.1%}".rstrip("%")


def _outcome(row: Row) -> str:
    if row.is_noise:
        return SAME if row.is_same else NOISE
    more, less = OUTCOMES.get(row.measure) or OUTCOMES.get(row.unit) or ANY
    return more if row.difference > 0 else less
