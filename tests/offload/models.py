"""Models and machines to plan with: the real shapes at every level, and cards of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from convert.recipes import LEVELS, ModelShape, tensor_types
from fwlocal.forecast.outline import outline
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Device, Machine, Memory
from fwlocal.offload import Footprint, footprint
from fwlocal.shapes import LlamaShape

GIB = 2**30
MIB = 2**20
SHAPES = {
    "7B": LlamaShape(32, 4096, 11008, 32, 32, 32000),
    "13B": LlamaShape(40, 5120, 13824, 40, 40, 32000),
    "65B": LlamaShape(80, 8192, 22016, 64, 64, 32000),
    "70B": LlamaShape(80, 8192, 28672, 64, 8, 32000),
}
LEVEL_NAMES = tuple(LEVELS)


@cache
def model(size: str, level: str = "Q4_K_M", n_ctx_train: int = 4096) -> Footprint:
    """The footprint of a Llama of that size at that level."""
    return footprint(header_of(SHAPES[size], level, n_ctx_train, f"{size}-{level}.gguf"))


def header_of(
    shape: LlamaShape, level: str, n_ctx_train: int = 4096, name: str = "m.gguf"
) -> GGUFHeader:
    """The header of a Llama of that shape at that level."""

    def types_of(level: str, tensors: Sequence[tuple[str, tuple[int, ...]]]) -> Mapping[str, str]:
        numbers = ModelShape(shape.n_layer, shape.n_head, shape.n_head_kv)
        return tensor_types(level, tensors, numbers, has_imatrix=True)

    return outline(shape, n_ctx_train, level, types_of, Path(name))


def card(name: str = "CUDA0", gib: float = 24, backend: str = "CUDA") -> Device:
    """A card, all of it free."""
    size_bytes = round(gib * GIB)
    return Device(name, f"card {name}", backend, "GPU", size_bytes, size_bytes)


def machine(*gpus: Device, ram_gib: float = 512, huge_pages: str = "") -> Machine:
    """A machine with these cards, and RAM, all of it free; ``huge_pages`` is the kernel's word."""
    ram_bytes = round(ram_gib * GIB)
    return Machine(Memory(ram_bytes, ram_bytes), gpus, huge_pages)
