"""Remembered settings: found again by model and machine, never when damaged or foreign."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal import llama, tuned
from fwlocal.errors import StoreError
from fwlocal.hardware import Device
from fwlocal.tuned import Finding, Settings, Tuned, Where
from fwlocal.whole import read_whole
from tests import tiny_llama

HERE = Where("Whale 9000", 4, 8, 16, (), "llama.cpp 1: AVX2 = 1")
SHAPE = "ab" * 32
FOUND = Finding("n_threads", "4", "8", "taken", 1.2, 1.1, 1.3)
KNOWN = Tuned(
    "whale:Q4_0", SHAPE, HERE, "CPU", Settings(n_threads=8), (FOUND,), "2030-01-01T00:00:00+00:00"
)


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.json")
    return path


def test_what_is_kept_is_recalled(tmp_path: Path) -> None:
    tuned.keep(tmp_path / "new", KNOWN)

    assert tuned.recall(tmp_path / "new", SHAPE, HERE, "CPU") == KNOWN
    assert tuned.all_kept(tmp_path / "new") == (KNOWN,)


@pytest.mark.parametrize(
    "there",
    [
        replace(HERE, build="llama.cpp 2: AVX2 = 1"),
        replace(HERE, cpu="Whale 9001"),
        replace(HERE, performance_cores=2),
        replace(HERE, gpus=("CUDA Whale",)),
    ],
)
def test_another_machine_or_build_has_none(tmp_path: Path, there: Where) -> None:
    tuned.keep(tmp_path, KNOWN)

    assert tuned.recall(tmp_path, SHAPE, there, "CPU") is None
    assert tuned.recall(tmp_path, SHAPE, HERE, "GPU") is None
    assert tuned.recall(tmp_path, "cd" * 32, HERE, "CPU") is None


def test_a_file_under_anothers_name_is_not_taken(tmp_path: Path) -> None:
    there = replace(HERE, cpu="Whale 9001")
    tuned.keep(tmp_path, replace(KNOWN, where=there))
    name = only_file(tmp_path)
    tuned.keep(tmp_path, KNOWN)
    shutil.copy(name, next(path for path in tmp_path.glob("*.json") if path != name))

    assert tuned.recall(tmp_path, SHAPE, HERE, "CPU") is None


def damaged(**changes: object) -> dict[str, Any]:
    return {"version": tuned.VERSION, **asdict(KNOWN), **changes}


@pytest.mark.parametrize(
    "data",
    [
        damaged(version=0),
        damaged(placed="attic"),
        damaged(settings={"n_threads": 0}),
        damaged(settings={"n_threads": True}),
        damaged(settings={"n_threads": 10**9}),
        damaged(settings={"flash_attn": "maybe"}),
        damaged(settings={"flash_attn": "off", "kv_type": "q8_0"}),
        damaged(settings={"mmap": 1}),
        damaged(settings={"numa": "mirror"}),
        damaged(settings={"whale": 1}),
        damaged(settings=None),
        damaged(findings=[{"setting": "n_threads"}]),
        damaged(findings=[{**asdict(FOUND), "ratio": "fast"}]),
        damaged(where={}),
        damaged(model=7),
        damaged(more="whale"),
        [],
        None,
    ],
)
def test_a_damaged_file_is_none(tmp_path: Path, data: object) -> None:
    tuned.keep(tmp_path, KNOWN)
    only_file(tmp_path).write_text(json.dumps(data))

    assert tuned.recall(tmp_path, SHAPE, HERE, "CPU") is None
    assert tuned.all_kept(tmp_path) == ()


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_damage_is_survived(tmp_path_factory: Any, noise: bytes, at: int) -> None:
    folder = tmp_path_factory.mktemp("tuned")
    whole = tuned.keep(folder, KNOWN).read_bytes()
    only_file(folder).write_bytes(whole[:at] + noise)

    found = tuned.recall(folder, SHAPE, HERE, "CPU")

    assert found is None or found.settings.taken().keys() <= set(tuned.NAMES)


def test_forgetting_is_of_all_machines_but_of_one_model(tmp_path: Path) -> None:
    other = replace(KNOWN, shape="cd" * 32)
    for one in (KNOWN, replace(KNOWN, where=replace(HERE, build="2")), other):
        tuned.keep(tmp_path, one)

    assert tuned.forget(tmp_path, SHAPE) == 2
    assert tuned.all_kept(tmp_path) == (other,)
    assert tuned.forget(tmp_path, SHAPE) == 0
    assert tuned.forget(tmp_path / "missing", SHAPE) == 0


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file"):
        tuned.keep(tmp_path / "file", KNOWN)
    with pytest.raises(StoreError, match="set FWLOCAL_CACHE to another folder"):
        tuned.check_folder(tmp_path / "file")


def test_a_folder_that_can_be_written_stays_as_it_was(tmp_path: Path) -> None:
    tuned.keep(tmp_path / "new", KNOWN)

    tuned.check_folder(tmp_path / "new")
    tuned.check_folder(tmp_path / "newer")

    assert tuned.all_kept(tmp_path / "new") == (KNOWN,)
    assert len(list((tmp_path / "new").iterdir())) == 1
    assert not list((tmp_path / "newer").iterdir())


def test_what_was_not_tried_again_stays() -> None:
    before = replace(
        KNOWN,
        settings=Settings(n_threads=8, n_ubatch=128, n_batch=512, kv_type="q8_0", flash_attn="on"),
        findings=(FOUND, replace(FOUND, setting="n_ubatch"), replace(FOUND, setting="kv_type")),
    )
    again = replace(
        KNOWN,
        settings=Settings(flash_attn="off"),
        findings=tuple(replace(FOUND, setting=name) for name in ("n_ubatch", "flash_attn")),
    )

    both = tuned.merged(before, again)

    assert both.settings == Settings(n_threads=8, flash_attn="off")
    assert [f.setting for f in both.findings] == ["n_threads", "kv_type", "n_ubatch", "flash_attn"]
    assert tuned.merged(None, again) == again


@pytest.mark.parametrize("verdict", ["noisy", "none"])
def test_what_could_not_be_told_again_stays(verdict: str) -> None:
    nothing = replace(FOUND, verdict=verdict, best="4")
    again = replace(KNOWN, settings=Settings(), findings=(nothing,))
    never = replace(KNOWN, settings=Settings(), findings=())

    assert tuned.merged(KNOWN, again) == KNOWN
    assert tuned.merged(never, again).findings == (nothing,)
    assert tuned.merged(again, KNOWN) == KNOWN


def test_a_copy_and_a_fine_tune_have_the_models_shape(tmp_path: Path, tiny_gguf: Path) -> None:
    shape = tuned.shape_of(read_whole(tiny_gguf))
    copy = shutil.copy(tiny_gguf, tmp_path / "another-name.gguf")
    fine = tiny_llama.write_gguf(tmp_path / "fine.gguf", seed=7)
    deeper = tiny_llama.write_gguf(tmp_path / "deep.gguf", tiny_llama.Shape(num_hidden_layers=3))
    longer = tiny_llama.Shape(max_position_embeddings=1024)

    assert tuned.shape_of(read_whole(Path(copy))) == shape
    assert tuned.shape_of(read_whole(fine)) == shape
    assert tuned.shape_of(read_whole(deeper)) != shape
    long = tiny_llama.write_gguf(tmp_path / "long.gguf", longer)
    assert tuned.shape_of(read_whole(long)) != shape


def test_this_machine_is_always_the_same() -> None:
    gpus = [Device(f"CUDA{n}", "Whale", "CUDA", "GPU", free, 10) for n, free in ((0, 1), (1, 2))]
    here = tuned.this_machine(gpus, llama.build_info())

    assert here == tuned.this_machine(gpus[::-1], llama.build_info())
    assert here.gpus == ("CUDA Whale", "CUDA Whale")
    assert here != tuned.this_machine(gpus[:1], llama.build_info())
