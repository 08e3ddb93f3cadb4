"""What was found out about exact numbers of rows is known to the next run, and to no other one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fwlocal.draft import KnownWidths
from fwlocal.gguf import GGUFHeader, read_header
from fwlocal.llama import ContextOptions
from fwlocal.loader.exact_rows import ExactRows, forget_exact
from fwlocal.offload import OffloadPlan, Share
from fwlocal.tuned import shape_of

FOUND = KnownWidths(
    short_sure=(2, 3), short_open=(4,), long_sure=(), long_open=(), short_same=((4, 8),)
)
OPTIONS = ContextOptions(n_ctx=512, n_threads=2, flash_attn="on")


@pytest.fixture
def header(tiny_gguf: Path) -> GGUFHeader:
    return read_header(tiny_gguf)


@pytest.fixture
def rows(header: GGUFHeader, tmp_path: Path) -> Callable[[ContextOptions], ExactRows]:
    share = Share("CPU", 3, 0, 0, 0, 0, 0)
    plan = OffloadPlan((share,), 0, 3, 512, "f16", "on", 512, 512, mmap=True, mlock=False)
    return lambda options: ExactRows(header, plan, options, tmp_path / "exact")


Rows = Callable[[ContextOptions], ExactRows]


def test_the_next_run_knows_it(rows: Rows) -> None:
    rows(OPTIONS).keep(FOUND)

    assert rows(OPTIONS).recall() == (FOUND, {})
    assert rows(replace(OPTIONS, n_ctx=4096)).recall() == (FOUND, {})


@pytest.mark.parametrize(
    "other",
    [
        replace(OPTIONS, n_threads=3),
        replace(OPTIONS, n_threads_batch=1),
        replace(OPTIONS, flash_attn="off"),
        replace(OPTIONS, kv_type="q8_0"),
        replace(OPTIONS, n_ubatch=1),
        replace(OPTIONS, n_batch=2),
    ],
)
def test_another_setting_does_not(rows: Rows, other: ContextOptions) -> None:
    rows(OPTIONS).keep(FOUND)

    assert rows(other).recall() == (KnownWidths(), {})


def test_a_switch_of_llama_cpp_makes_another_one(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(OPTIONS).keep(FOUND)
    monkeypatch.setenv("GGML_SOMETHING", "1")

    assert rows(OPTIONS).recall() == (KnownWidths(), {})


def test_what_batches_cost_is_known_too(rows: Rows) -> None:
    rows(OPTIONS).keep(FOUND, {4: 2.5, 2: 1.5})
    assert rows(OPTIONS).recall() == (FOUND, {2: 1.5, 4: 2.5})

    rows(OPTIONS).keep(KnownWidths())  # as `fwlocal tune` does, which measures no costs
    assert rows(OPTIONS).recall() == (KnownWidths(), {2: 1.5, 4: 2.5})


def test_what_no_batch_can_cost_is_not_kept(rows: Rows) -> None:
    rows(OPTIONS).keep(FOUND, {2: 0.2, 4: 2.5, 8: 900.0})

    assert rows(OPTIONS).recall() == (FOUND, {4: 2.5})


def test_a_file_without_costs_is_read(rows: Rows, tmp_path: Path) -> None:
    rows(OPTIONS).keep(FOUND)
    (path,) = (tmp_path / "exact").iterdir()
    path.write_text(json.dumps(asdict(FOUND)), encoding="utf-8")

    assert rows(OPTIONS).recall() == (FOUND, {})


def test_it_is_forgotten(rows: Rows, header: GGUFHeader, tmp_path: Path) -> None:
    rows(OPTIONS).keep(FOUND)
    rows(replace(OPTIONS, n_threads=3)).keep(FOUND)

    assert forget_exact(shape_of(header), tmp_path / "exact") == 2
    assert rows(OPTIONS).recall() == (KnownWidths(), {})
    assert forget_exact(shape_of(header), tmp_path / "exact") == 0


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"wide": [2]}',
        json.dumps({**asdict(FOUND), "short_sure": [5]}),
        json.dumps({**asdict(FOUND), "short_sure": [2, 2]}),
        json.dumps({**asdict(FOUND), "short_sure": [4]}),
        json.dumps({**asdict(FOUND), "short_same": [[4, 32]]}),
        json.dumps({**asdict(FOUND), "short_same": [[2, 8]]}),
        json.dumps({**asdict(FOUND), "short_same": [4]}),
        json.dumps({**asdict(FOUND), "short_sure": None}),
        json.dumps({**asdict(FOUND), "costs": [[2, 0.1]]}),
        json.dumps({**asdict(FOUND), "costs": [[2, 21.0]]}),
        json.dumps({**asdict(FOUND), "costs": [[2, float("nan")]]}),
        json.dumps({**asdict(FOUND), "costs": [[1, 1.0]]}),
        json.dumps({**asdict(FOUND), "costs": [[17, 2.0]]}),
        json.dumps({**asdict(FOUND), "costs": [["2", 2.0]]}),
        json.dumps({**asdict(FOUND), "costs": [[2, "2"]]}),
        json.dumps({**asdict(FOUND), "costs": [2]}),
        json.dumps({**asdict(FOUND), "costs": None}),
    ],
)
def test_a_damaged_file_says_nothing(rows: Rows, tmp_path: Path, damage: str) -> None:
    rows(OPTIONS).keep(FOUND)
    (path,) = (tmp_path / "exact").iterdir()
    path.write_text(damage, encoding="utf-8")

    assert rows(OPTIONS).recall() == (KnownWidths(), {})


def test_where_nothing_can_be_written_nothing_is_kept(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "exact").write_text("a file in the folder's place", encoding="utf-8")

    rows(OPTIONS).keep(FOUND)

    assert rows(OPTIONS).recall() == (KnownWidths(), {})
