"""Two runs side by side, in a terminal, in a pipe, and as Markdown."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fwlocal.bench.comparison import Comparison, Row
from fwlocal.bench.comparison_view import markdown, show
from tests.bench.test_markdown import rows_of

FASTER = Row("Q6_K", "tg128", 60.2, 72.4, 12.2, 10.9, 13.4, False, "tok/s")
NOISE = Row("Q6_K", "kld_mean", 0.00213, 0.00215, 0.00002, -0.0001, 0.0002, True, "nats")
LARGER = Row("Q6_K", "size", 110 << 20, 121 << 20, 11 << 20, 11 << 20, 11 << 20, False, "B")
WORSE = Row("Q4_0", "top1", 0.912, 0.897, -0.015, -0.02, -0.01, False, "share")
RUNS = Comparison(
    "before.json",
    "after.json",
    ("fwlocal: 0.7.0 in before.json, 0.8.0 in after.json",),
    (FASTER, NOISE, LARGER, WORSE),
    ("Q8_0",),
    (),
)


def shown(comparison: Comparison, width: int = 100, *, is_terminal: bool = True) -> list[str]:
    """The lines on a console."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=is_terminal, color_system=None)
    show(comparison, console)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_every_measure_of_both_with_the_difference() -> None:
    lines = shown(RUNS, is_terminal=False)
    start = next(index for index, line in enumerate(lines) if line.startswith("LEVEL"))
    cells = [[cell.strip() for cell in line.split("  ") if cell] for line in lines[start:]]
    assert cells[:5] == [
        ["LEVEL", "MEASURE", "A", "B", "DIFFERENCE", "INTERVAL", "%", "B IS"],
        ["Q6_K", "tg128, tok/s", "60.2", "72.4", "+12.2", "+10.9 to +13.4", "+20.3", "faster"],
        ["Q6_K", "KLD, nats", "0.00213", "0.00215", "+0.00002", "-0.00010 to +0.00020", "noise"],
        ["Q6_K", "size", "110 MiB", "121 MiB", "+11 MiB", "+10.0", "larger"],
        ["Q4_0", "TOP-1, %", "91.20", "89.70", "-1.50", "-2.00 to -1.00", "worse"],
    ]


def test_what_else_differs_stands_above_and_the_count_below() -> None:
    lines = shown(RUNS, is_terminal=False)
    assert lines[:3] == [
        "A: before.json",
        "B: after.json",
        "fwlocal: 0.7.0 in before.json, 0.8.0 in after.json",
    ]
    assert "3 of 4 measures differ; 1 is noise" in lines
    assert "only in A: Q8_0" in lines
    assert not any(line.startswith("only in B") for line in lines)


def test_differences_are_bold_and_noise_is_not() -> None:
    screen = io.StringIO()
    show(RUNS, Console(file=screen, width=100, force_terminal=True))
    lines = screen.getvalue().splitlines()
    (faster,) = (line for line in lines if "faster" in line)
    (noise,) = (line for line in lines if "noise" in line and "KLD" in line)
    assert "\x1b[1mfaster" in faster
    assert "\x1b[2mnoise" in noise


def test_narrow_terminals_drop_columns_but_not_the_figures() -> None:
    lines = shown(RUNS, 60)
    headings = next(line for line in lines if line.startswith("LEVEL")).split()
    assert headings[:5] == ["LEVEL", "MEASURE", "A", "B", "DIFFERENCE"]
    assert any(line.startswith("left out for want of room: INTERVAL, %") for line in lines)
    assert "DIFFERENCE: B less A" in lines
    assert not any("left out" in line for line in shown(RUNS, 120))


def noise(measure: str, difference: float = 0.0) -> Row:
    return Row("Q6_K", measure, 1.0, 1.0 + difference, difference, -0.1, 0.1, True, "nats")


def test_much_that_is_no_difference_is_counted() -> None:
    rows = (FASTER, WORSE, *(noise(f"kld_{n}", 0.01) for n in (50, 95, 99)), noise("kld_max"))
    several = replace(RUNS, rows=rows)
    lines = shown(several)
    assert "Q6_K: 3 figures differ by no more than noise, 1 figure is the same" in lines
    assert "2 of 6 measures differ; 3 are noise; 1 is the same" in lines
    assert not any("kld_95" in line for line in lines)
    assert [row[-1] for row in rows_of(markdown(several))[1:]] == ["faster", "worse"]
    nothing_else = shown(replace(RUNS, rows=rows[2:]))
    assert not any(line.startswith(("LEVEL", "INTERVAL")) for line in nothing_else)


def test_what_is_equal_is_the_same_and_has_no_interval() -> None:
    (line,) = (line for line in shown(replace(RUNS, rows=(noise("kld_mean"),))) if "Q6_K" in line)
    assert line.split() == ["Q6_K", "KLD,", "nats", "1.000", "1.000", "0", "same"]


def test_a_perplexity_has_the_digits_of_its_error() -> None:
    worse = Row("Q4_0", "ppl", 16.03124, 16.13124, 0.1, 0.0999, 0.1001, False, "", 0.093, 0.094)
    (line,) = (line for line in shown(replace(RUNS, rows=(worse,))) if "PPL" in line)
    assert line.split()[2:5] == ["16.03", "16.13", "+0.10000"]
    end = replace(worse, b=math.exp(700), difference=math.exp(700))
    assert any("> 1e304" in line for line in shown(replace(RUNS, rows=(end,))))


def test_intervals_are_called_what_they_are() -> None:
    assumed = replace(FASTER, is_assumed=True)
    once = "measured once in a run: ± 20% is taken for the interval of tg128"
    lines = shown(replace(RUNS, rows=(assumed, LARGER)))
    assert once in lines
    assert not any("95 %" in line for line in lines)
    assert any("95 %" in line for line in shown(RUNS))


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(cell_len, shown(RUNS, width))) <= width


def test_as_markdown() -> None:
    source = markdown(RUNS)
    headings, *rows = rows_of(source)
    assert headings[-1] == "B IS"
    assert [row[-1] for row in rows] == ["faster", "noise", "larger", "worse"]
    assert "| **+12.2** | +10.9 to +13.4 | +20.3 | **faster** |" in source
    assert "\n| --- | --- | ---: |" in source
    assert "- A: before.json\n" in source


def test_runs_with_nothing_in_common() -> None:
    lines = shown(Comparison("a", "b", (), ()))
    assert "the two runs have no measure of the same level in common" in lines


numbers = st.floats()
rows = st.builds(
    Row,
    label=st.text(max_size=9),
    measure=st.sampled_from(("ppl", "tg128", "size", "new")),
    unit=st.sampled_from(("tok/s", "s", "B", "nats", "share", "")),
)


@settings(max_examples=40, deadline=None)
@given(st.builds(Comparison, rows=st.lists(rows, max_size=4).map(tuple)), st.integers(8, 200))
def test_any_comparison(comparison: Comparison, width: int) -> None:
    assert "\x1b" not in "".join(shown(comparison, width))
    n_differ = sum(not row.is_noise for row in comparison.rows)
    n_shown = max(0, len(rows_of(markdown(comparison))) - 1)
    assert n_differ <= n_shown <= len(comparison.rows)
