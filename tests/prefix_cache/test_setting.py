"""What must agree for a state to be taken over, told from a plan and a model's header."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.gguf import GGUFHeader, TensorInfo, Value
from fwlocal.hardware import Device
from fwlocal.offload import OffloadPlan, Share
from fwlocal.prefix_cache import Setting, setting_of
from fwlocal.prefix_cache.setting import KEY_BYTES, switches_in
from fwlocal.store import ModelFile
from tests.prefix_cache.kept import SETTING

CARD = Device("CUDA0", "NVIDIA H100", "CUDA", "GPU", 1, 1)
SHARES = Share("CUDA0", 33, 0, 0, 0, 0, 0), Share("CPU", 0, 0, 0, 0, 0, 0)
PLAN = OffloadPlan(SHARES, 33, 33, 4096, "f16", "auto", 512, 256, mmap=True, mlock=False)


def setting(
    path: Path,
    *,
    plan: OffloadPlan = PLAN,
    card: Device = CARD,
    n_ctx: int = 4096,
    tensors: tuple[TensorInfo, ...] = (),
    level: str | None = "Q8_0",
) -> Setting | None:
    keys: dict[str, Value] = {
        "general.architecture": "phi3",
        "phi3.context_length": 131072,
        "phi3.rope.scaling.original_context_length": 4096,
    }
    header = GGUFHeader(path, 3, keys, tensors, 0, 0)
    return setting_of(
        ModelFile("whale", path, level=level),
        header,
        plan,
        gpus=(card,),
        n_ctx=n_ctx,
        n_threads=2,
        n_threads_batch=4,
        build="llama.cpp 1",
        can_cut=True,
    )


def key(path: Path, **changes: object) -> bytes:
    found = setting(path, **changes)  # type: ignore[arg-type]
    assert found is not None
    return found.key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model's file."""
    path = tmp_path / "whale.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_it_is_told_from_the_plan(path: Path) -> None:
    found = setting(path)

    assert found is not None
    assert (found.model, found.kv_type, found.n_ubatch) == ("whale:Q8_0", "f16", 256)
    assert (found.n_threads, found.n_threads_batch) == (2, 4)
    assert found.layers == ("CUDA0 (NVIDIA H100): 33",)
    assert found.rope == ""
    assert len(found.key) == KEY_BYTES
    alone = setting(path, level=None)
    assert alone is not None
    assert (alone.model, alone.key) == ("whale", found.key)


def test_a_context_of_another_size_takes_the_state_over(path: Path) -> None:
    assert key(path, n_ctx=8192) == key(path)
    assert key(path, n_ctx=256) != key(path, n_ctx=8192), "its batches are smaller"


def test_factors_for_long_contexts_turn_keys_otherwise(path: Path) -> None:
    tensors = (TensorInfo("rope_factors_long.weight", (48,), "F32", 0, 192),)
    short, still, long = (key(path, tensors=tensors, n_ctx=n) for n in (2048, 4096, 4352))

    assert short == still != long


def test_another_card_under_the_same_name_computes_otherwise(path: Path) -> None:
    assert key(path, card=replace(CARD, description="NVIDIA L4")) != key(path)
    assert key(path, plan=replace(PLAN, shares=SHARES[1:])) != key(path)


def test_switches_of_llama_cpp_are_a_part_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = key(path)
    monkeypatch.setenv("NOBODYS_SWITCH", "1")
    assert key(path) == plain
    monkeypatch.setenv("LLAMA_ATTN_ROT_DISABLE", "1")
    assert key(path) != plain

    environment = {"GGML_B": "2", "PATH": "/bin", "GGML_A": "1", "NVIDIA_TF32_OVERRIDE": "0"}
    assert switches_in(environment) == ("GGML_A=1", "GGML_B=2", "NVIDIA_TF32_OVERRIDE=0")


def test_a_model_that_is_gone_has_none(tmp_path: Path) -> None:
    assert setting(tmp_path / "gone.gguf") is None


@pytest.mark.parametrize("field", dataclasses.fields(Setting), ids=lambda field: field.name)
def test_all_but_the_name_is_a_part_of_the_key(field: dataclasses.Field[object]) -> None:
    value = getattr(SETTING, field.name)
    other = {
        bool: not value,
        int: 7,
        str: f"{value}!",
        tuple: ("CUDA0 (a card): 1",),
    }[type(value)]

    changed = replace(SETTING, **{field.name: other})  # type: ignore[arg-type]

    assert (changed.key == SETTING.key) == (field.name == "model")
