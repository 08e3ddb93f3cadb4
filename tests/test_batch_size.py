"""Tokens at once in ``run --batch``: those that llama.cpp will really get."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal import llama
from fwlocal.cli.batch import _n_batch
from fwlocal.gguf import read_header
from fwlocal.loader import EngineOptions
from fwlocal.loader.options import request_of
from fwlocal.loader.planning import look_around
from fwlocal.loader.remembered import placed
from fwlocal.offload import footprint, make_plan
from fwlocal.tuned import Settings, Tuned, default_folder, keep, shape_of, this_machine


@pytest.mark.parametrize(("options", "expected"), [({}, 512), ({"n_batch": 64}, 64)])
def test_as_asked(
    tiny_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, int],
    expected: int,
) -> None:
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path))

    assert _n_batch(EngineOptions(**options), read_header(tiny_gguf)) == expected  # type: ignore[arg-type]


def test_as_tune_found_it(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path))
    header, machine = read_header(tiny_gguf), look_around().machine
    plan = make_plan(footprint(header), machine, request_of(EngineOptions(), header))
    where = this_machine(machine.gpus, llama.build_info())
    found = Settings(n_batch=128, n_ubatch=128)
    made = "2026-01-01T00:00:00Z"
    keep(default_folder(), Tuned("tiny", shape_of(header), where, placed(plan), found, (), made))

    assert _n_batch(EngineOptions(), header) == 128
    assert _n_batch(EngineOptions(n_batch=64), header) == 64
    assert _n_batch(EngineOptions(tuned=False), header) == 512
