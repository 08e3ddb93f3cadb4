"""What a model needs, from its header alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.errors import DoesNotFit
from fwlocal.gguf import GGUFHeader, Value
from fwlocal.hardware import Device, Memory
from fwlocal.offload import check_fits, default_n_ctx, memory_need

GIB = 2**30
GPU = Device("CUDA0", "a card", "CUDA", "GPU", 8 * GIB, 8 * GIB)


def llama_2_70b() -> GGUFHeader:
    """The shape of FreeWilly2, without its tensors."""
    keys: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": 80,
        "llama.embedding_length": 8192,
        "llama.attention.head_count": 64,
        "llama.attention.head_count_kv": 8,
    }
    return GGUFHeader(Path("freewilly2-Q4_K_M.gguf"), 3, keys, (), 0, 0)


@pytest.mark.parametrize(
    ("kv_type", "mib"),
    # llama.cpp's log for Llama-2-70B: "KV self size = 1280.00 MiB" at 4096 tokens of f16.
    [("f16", 1280), ("q8_0", 680), ("q4_0", 360)],
)
def test_kv_cache_of_the_70b(kv_type: str, mib: int) -> None:
    assert memory_need(llama_2_70b(), 4096, kv_type).kv_bytes == mib * 2**20


def test_what_fits_passes() -> None:
    check_fits(llama_2_70b(), 4096, "f16", Memory(2 * GIB, 4 * GIB), ())


def test_what_does_not_fit_names_need_and_memory() -> None:
    with pytest.raises(DoesNotFit, match=r"needs 5\.1 GiB .* 1\.0 GiB are free; take") as caught:
        check_fits(llama_2_70b(), 16384, "f16", Memory(GIB, 4 * GIB), ())
    assert caught.value.exit_code == 5


def test_a_gpus_memory_counts_too() -> None:
    check_fits(llama_2_70b(), 16384, "f16", Memory(GIB, 4 * GIB), (GPU,))


@pytest.mark.parametrize(
    ("trained", "needed", "n_ctx"),
    [(8192, 0, 4096), (2048, 0, 2048), (8192, 5000, 5120), (8192, 9000, 8192), (0, 100, 4096)],
)
def test_default_n_ctx(trained: int, needed: int, n_ctx: int) -> None:
    assert default_n_ctx(trained, needed) == n_ctx
