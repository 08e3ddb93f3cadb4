"""A result in the terminal and in a pipe."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fwlocal.bench.result import BenchResult, Verdict
from fwlocal.bench.table import LevelTable, level_table, show
from fwlocal.tables import Column
from tests.bench import sample
from tests.bench.any_result import results


def shown(result: BenchResult, width: int = 80, *, is_terminal: bool = True) -> list[str]:
    """The lines on a console."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=is_terminal, color_system=None)
    show(result, console)
    return screen.getvalue().splitlines()


def piped(result: BenchResult) -> list[str]:
    """The lines in a pipe."""
    return shown(result, is_terminal=False)


def headings(lines: list[str]) -> list[str]:
    """Of the columns, which stand two blanks apart."""
    return [heading.strip() for heading in lines[0].split("  ") if heading.strip()]


def row(lines: list[str], label: str) -> dict[str, str]:
    """A level's cells by their headings, where none is empty."""
    line = next(line for line in lines if line.startswith(label))
    cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
    return dict(zip(headings(lines), cells, strict=True))


def test_a_standard_error_that_was_not_reached_is_told() -> None:
    known = replace(sample.FULL, settings=replace(sample.FULL.settings, until=0.01))
    near, far = (
        replace(level, quality=sample.quality(0.05, 17.2, kld_by_chunk=chunks))
        for level, chunks in zip(
            sample.LEVELS[3:5], ((0.05, 0.052, 0.049, 0.051), (0.01, 0.3, 0.02, 0.5)), strict=True
        )
    )
    (told,) = (line for line in piped(replace(known, levels=(near, far))) if "until" in line)
    assert told.endswith(f"until the standard error is 0.01 (not reached: {far.label})")
    (told,) = (line for line in piped(replace(known, levels=(near,))) if "until" in line)
    assert told.endswith("until the standard error is 0.01")


def test_a_reference_without_numbers_is_named_as_one() -> None:
    """Else a sound level would be said to compute none."""
    broken = replace(sample.REFERENCE, quality=sample.quality(0.0, 17.0, n_nan=12))
    sound = replace(sample.LEVELS[4], quality=sample.quality(0.05, 17.2, n_nan=12))
    lines = piped(replace(sample.FULL, levels=(broken, sound)))

    told = [line.partition(" at ")[0] for line in lines if "no numbers" in line]
    assert told == [f"{broken.label}: logits", f"{sound.label}: logits, or {broken.label}'s,"]


def test_in_a_pipe_each_level_is_a_line_with_every_column() -> None:
    cells = row(piped(sample.FULL), "Q4_K_M")
    assert cells == {
        "LEVEL": "Q4_K_M *",
        "SIZE": "88 MiB",
        "BITS": "5.47",
        "PEAK RSS": "248 MiB",
        "MEMORY": "329 MiB",
        "ON GPU": "31 of 31",
        "CUDA0": "298 MiB",
        "CPU": "31 MiB",
        "LOAD": "0.21 s",
        "COLD": "1.34 s",
        "pp512": "914 ± 9",
        "tg128": "101.5 ± 1.0",
        "pp512@4k": "609 ± 6",
        "tg128@4k": "71.0 ± 0.7",
        "OF LIMIT": "61%",
        "J/TOKEN": "0.34",
        "PPL": "16.42 ± 0.09",
        "KLD": "0.0213 ± 0.0004",
        "KLD 99.9 %": "0.53 ± 0.02",
        "TOP-1 %": "95.7 ± 0.2",
        "Δp RMS %": "3.41 ± 0.08",
        "SAME": "3 of 4",
    }


def test_the_reference_and_the_front_are_marked() -> None:
    lines = piped(sample.FULL)
    assert row(lines, "Q8_0")["LEVEL"] == "Q8_0 ref *"
    assert row(lines, "Q8_0")["KLD"] == "0"
    assert row(lines, "Q4_0")["LEVEL"] == "Q4_0"


def test_what_cannot_be_told_apart_is_not_ranked() -> None:
    lines = piped(sample.FULL)
    assert row(lines, "Q5_K_M")["KLD"].startswith("≈ ")
    assert row(lines, "Q4_K_M")["KLD"][0] != "≈"
    assert "ties: tg128: Q6_K ≈ Q5_K_M, Q4_K_M ≈ Q4_0; KLD: Q6_K ≈ Q5_K_M" in lines
    assert not any("tg128" in line for line in shown(sample.FULL, 36))  # nor its ties


def test_too_little_was_measured_to_tell_levels_apart() -> None:
    levels = tuple(
        replace(
            one,
            quality=sample.quality(0.01, 17.0, n_chunks=2),
            speeds=tuple(replace(speed, tps=speed.tps[:1]) for speed in one.speeds),
        )
        for one in sample.LEVELS
    )
    lines = piped(replace(sample.FULL, levels=levels, differences=()))
    assert "too few chunks (2) to tell levels apart; take --chunks 8 or more" in lines
    assert "one round: speeds cannot be told apart; take -r 3" in lines
    assert not any("≈" in line or "95 %" in line for line in lines)
    enough = piped(sample.FULL)
    assert not any("too few" in line or "one round" in line for line in enough)


@pytest.mark.parametrize("width", [60, 200])
def test_levels_that_read_less_say_so(width: int) -> None:
    short = replace(sample.LEVELS[3], quality=sample.quality(0.02, 16.4, n_chunks=1))
    levels = (*sample.LEVELS[:3], short)
    lines = shown(replace(sample.FULL, levels=levels), width)
    assert [row(lines, one.label)["CHUNKS"] for one in levels] == ["32 of 32"] * 3 + ["1 of 32"]
    assert "CHUNKS" not in headings(shown(sample.FULL, width))


def test_a_perplexity_without_end_is_no_number() -> None:
    levels = (replace(sample.LEVELS[1], quality=sample.quality(0.1, math.exp(700))),)
    assert row(piped(replace(sample.FULL, levels=levels)), "Q6_K")["PPL"] == "> 1e304"


def test_a_level_that_failed_later_keeps_its_figures() -> None:
    failed = replace(sample.LEVELS[3], problem="it changed on disk")
    lines = piped(replace(sample.FULL, levels=(sample.REFERENCE, failed), verdict=Verdict()))
    cells = row(lines, "Q4_K_M")
    assert (cells["LEVEL"], cells["KLD"]) == ("Q4_K_M failed", "0.0213 ± 0.0004")
    assert "Q4_K_M: failed later: it changed on disk" in lines


def test_the_front_is_told_by_what_was_measured() -> None:
    def told(result: BenchResult) -> str:
        return next(line for line in piped(result) if "Pareto" in line)

    assert "no level is as good in size, decode speed and KLD and better in one" in told(
        sample.FULL
    )
    assert "as good in size and decode speed and better" in told(sample.WITHOUT_QUALITY)


def test_the_verdict_and_its_command_stand_below() -> None:
    lines = piped(sample.FULL)
    index = lines.index("Q4_K_M is the fastest level with a KLD of at most 0.03.")
    assert index == len(sample.LEVELS) + 2  # right under the table
    assert lines[index + 1] == "  fwlocal run -m whale-135m:Q4_K_M"


def test_machine_versions_text_and_settings_stand_below() -> None:
    text = "\n".join(piped(sample.FULL))
    for fact in (
        "AMD EPYC 7763 (8 threads), 64.0 GiB RAM, 41 GB/s, NVIDIA GeForce RTX 4090",
        "fwlocal 0.7.0, llama.cpp 0.3.36, 2026-01-02T03:04:05Z",
        "moby-dick.txt (SHA-256 abababababab, 95,123 tokens), 32 chunks of 512 tokens",
        "the median of 3 rounds",
        "KV cache f16",
    ):
        assert fact in text


def test_a_problem_stands_in_place_of_figures() -> None:
    assert f"F32       {sample.PROBLEM}" in piped(sample.WITH_PROBLEMS)
    narrow = " ".join(line.strip() for line in shown(sample.WITH_PROBLEMS, 44))
    assert "F32       does not fit: it needs 80.0 GiB, and 24.0 GiB are free on CUDA0" in narrow


def test_logits_that_are_no_numbers_are_counted() -> None:
    (line,) = (line for line in piped(sample.WITH_PROBLEMS) if "NaN" in line)
    assert line.startswith("Q4_0: logits at 12 of 8,172 positions")


def test_columns_that_nobody_has_are_left_out() -> None:
    assert not {"PPL", "KLD", "SAME"} & {*headings(piped(sample.WITHOUT_QUALITY))}
    assert not {"pp512", "LOAD", "J/TOKEN"} & {*headings(piped(sample.WITHOUT_SPEED))}
    assert "KLD" not in headings(piped(sample.ONE_LEVEL))  # the reference's own says nothing
    assert "PPL" in headings(piped(sample.ONE_LEVEL))


def test_a_process_without_a_gpu_tells_its_memory_once() -> None:
    levels = tuple(replace(one, devices=one.devices[1:]) for one in sample.LEVELS)
    names = headings(piped(replace(sample.FULL, levels=levels)))
    assert {"PEAK RSS", "MEMORY"} <= {*names}
    assert "CPU" not in names


def test_columns_are_dropped_in_order() -> None:
    every = headings(piped(sample.FULL))
    seen: list[set[str]] = [{*headings(shown(sample.FULL, width))} for width in range(240, 30, -4)]
    assert seen[0] == {*every}
    assert all(later <= earlier for earlier, later in itertools.pairwise(seen))
    first = next(names for names in seen if names < {*every})
    assert {*every} - first <= {"pp512@4k", "tg128@4k"}
    assert seen[-1] == {"LEVEL", "KLD"}
    assert {"LEVEL", "SIZE", "tg128", "PPL", "KLD"} <= {*headings(shown(sample.FULL, 80))}


def test_it_says_how_much_is_left_out() -> None:
    assert not any("left out" in line for line in piped(sample.FULL))
    assert any(line.startswith("16 columns left out") for line in shown(sample.FULL, 80))


def test_only_what_is_shown_is_explained() -> None:
    assert any("; OF LIMIT: " in line for line in piped(sample.FULL))
    assert any("MEMORY: weights, KV cache of 4,608 tokens" in line for line in piped(sample.FULL))
    narrow = shown(sample.FULL, 80)
    assert any(line.startswith("KLD: mean divergence from Q8_0") for line in narrow)
    assert not any("OF LIMIT" in line for line in narrow)


@pytest.mark.parametrize("result", sample.ALL)
@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_nothing_is_wider_than_the_terminal(result: BenchResult, width: int) -> None:
    assert max(map(cell_len, shown(result, width))) <= width


@pytest.mark.parametrize(("label", "tps"), [("Q4_0", "≈99.3"), ("Q6_K", "78.9")])
def test_the_level_to_take_is_bold(label: str, tps: str) -> None:
    screen = io.StringIO()
    result = replace(sample.WITH_PROBLEMS, verdict=Verdict(label=label))
    show(result, Console(file=screen, width=80, force_terminal=True))
    rows = [line.replace(" ", "") for line in screen.getvalue().splitlines() if "MiB" in line]
    assert [f"\x1b[1m{tps}" in line for line in rows] == [label in line for line in rows]


def test_pending_levels_are_rows_without_figures() -> None:
    lines = level_table(sample.LEVELS[:1], pending=["Q6_K"]).plain().splitlines()
    assert lines[-1] == "Q6_K"


def test_a_problem_has_a_line_of_its_own_where_there_is_no_room_beside_it() -> None:
    table = LevelTable([Column("LEVEL")], [["a-long-name-of-a-file"]], {0: "does not fit"})
    screen = io.StringIO()
    table.show(Console(file=screen, width=24, force_terminal=True, color_system=None))
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines == ["LEVEL", "a-long-name-of-a-file", "  does not fit"]


@settings(max_examples=40, deadline=None)
@given(results, st.integers(8, 250))
def test_any_result_on_any_terminal(result: BenchResult, width: int) -> None:
    assert "\x1b" not in "".join(shown(result, width))
    assert len(piped(result)) >= 1 + len(result.levels)
