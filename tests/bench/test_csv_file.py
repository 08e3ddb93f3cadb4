"""A result as CSV, read back by Python's own reader."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from hypothesis import given, settings

from fwlocal.bench.csv_file import FIGURES, csv_text
from fwlocal.bench.result import BenchResult, Quality, SpeedTest, Value
from tests.bench import sample
from tests.bench.any_result import results


def rows_of(result: BenchResult) -> list[dict[str, str]]:
    """The rows by their headings."""
    return list(csv.DictReader(io.StringIO(csv_text(result), newline=""), strict=True))


def test_every_figure_and_its_standard_error() -> None:
    row = rows_of(sample.FULL)[1]
    quality = sample.FULL.levels[1].quality
    assert quality is not None
    for name in FIGURES:
        value: Value = getattr(quality, name)
        assert float(row[name]) == value.value
        assert row[f"{name}_se"] == ("" if value.se is None else repr(value.se))
    assert {*FIGURES} == {name for name, kind in Quality.__annotations__.items() if kind == "Value"}


def test_speeds_by_depth() -> None:
    row = rows_of(sample.FULL)[1]
    speed = sample.FULL.levels[1].speed(sample.TG_DEEP)
    assert speed is not None
    assert float(row["tg128_d4096_tps_median"]) == speed.median
    assert float(row["tg128_d4096_tps_min"]) == min(speed.tps)
    assert float(row["pp512_tps_max"]) == 78.9 * 9 * 1.004
    assert row["tg128_tps_n"] == "3"


def test_memory_by_device() -> None:
    row = rows_of(sample.FULL)[1]
    assert row["mem_cuda0_weights_bytes"] == str(110 << 20)
    assert row["mem_cpu_compute_bytes"] == str(1 << 20)


def test_marks_and_problems() -> None:
    rows = rows_of(sample.FULL)
    assert [row["is_reference"] for row in rows] == ["true", *["false"] * 4]
    assert [row["label"] for row in rows if row["is_on_front"] == "true"] == list(sample.LABELS[:4])
    assert [row["label"] for row in rows if row["is_recommended"] == "true"] == ["Q4_K_M"]
    assert rows_of(sample.WITH_PROBLEMS)[0]["problem"] == sample.PROBLEM
    assert rows_of(sample.WITH_PROBLEMS)[0]["kld_mean"] == ""


def test_every_row_tells_machine_and_versions() -> None:
    for row in rows_of(sample.FULL):
        assert row["cpu"] == "AMD EPYC 7763"
        assert row["llama_cpp"] == "0.3.36"
        assert row["text"] == "moby-dick.txt"


def test_columns_are_the_same_whatever_was_measured() -> None:
    full, bare = rows_of(sample.FULL)[0], rows_of(sample.WITHOUT_QUALITY)[0]
    assert list(full) == list(bare)
    missing = {*full} - {*rows_of(sample.WITHOUT_SPEED)[0]}
    assert all(name.startswith(("pp512_", "tg128_", "mem_")) for name in missing)


def test_lines_end_as_the_rfc_says_and_cells_are_quoted() -> None:
    levels = (replace(sample.LEVELS[1], label='a,"b"\nc'),)
    text = csv_text(replace(sample.FULL, levels=levels))
    assert text.startswith("label,file,")
    assert text.endswith("\r\n")
    assert '"a,""b""\nc"' in text


def test_a_test_that_one_level_lacks_is_empty() -> None:
    levels = (sample.LEVELS[0], replace(sample.LEVELS[1], speeds=()))
    rows = rows_of(replace(sample.FULL, levels=levels))
    assert rows[0]["tg128_tps_median"]
    assert rows[1]["tg128_tps_median"] == ""
    assert SpeedTest(0, 128, 4096) == sample.TG_DEEP


@settings(max_examples=40, deadline=None)
@given(results)
def test_any_result(result: BenchResult) -> None:
    rows = rows_of(result)
    assert [row["label"] for row in rows] == [level.label for level in result.levels]
    assert all(None not in row.values() for row in rows)
