"""What a GGUF file says before its tensor data, as plain values: keys, tensors, their types.

Knows nothing of files; ``fwlocal.gguf.reader`` reads one into these.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ALIGNMENT = 32
VOCABULARY = "tokenizer.ggml.tokens"
TEMPLATE = "tokenizer.chat_template"

# The format's value type id -> (name, how it is packed).
SCALARS = {
    0: ("u8", struct.Struct("<B")),
    1: ("i8", struct.Struct("<b")),
    2: ("u16", struct.Struct("<H")),
    3: ("i16", struct.Struct("<h")),
    4: ("u32", struct.Struct("<I")),
    5: ("i32", struct.Struct("<i")),
    6: ("f32", struct.Struct("<f")),
    7: ("bool", struct.Struct("<?")),
    10: ("u64", struct.Struct("<Q")),
    11: ("i64", struct.Struct("<q")),
    12: ("f64", struct.Struct("<d")),
}
U64 = SCALARS[10][1]

# ggml type id -> (name, elements per block, bytes per block); ggml's type_traits.
GGML_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}

Scalar = int | float | bool | str


@dataclass(frozen=True)
class GGUFArray:
    """An array value, decoded only when it is iterated: a vocabulary's is a megabyte of strings."""

    element_type: str
    count: int
    data: bytes

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Scalar]:
        if self.element_type == "string":
            return self._strings()
        code = {name: scalar.format for name, scalar in SCALARS.values()}[self.element_type]
        return iter(struct.unpack(f"<{self.count}{code[1:]}", self.data))

    def _strings(self) -> Iterator[str]:
        position = 0
        for _ in range(self.count):
            (length,) = U64.unpack_from(self.data, position)
            position += 8 + length
            yield self.data[position - length : position].decode("utf-8", "replace")


Value = Scalar | GGUFArray


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its shape as ggml counts it (innermost first) and where its bytes lie."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int  # from the start of the data section
    size_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """All that a GGUF file says before its tensor data."""

    path: Path
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_size_bytes: int

    @property
    def architecture(self) -> str:
        """``general.architecture``, "" when the file names none."""
        return self.text("general.architecture") or ""

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    def text(self, key: str) -> str | None:
        """The string at ``key``, or None when it is missing or no string."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def has_tokens_of(self, other: GGUFHeader) -> bool:
        """Whether both files name their vocabulary, and it is the same one, id for id."""
        own = self.metadata.get(VOCABULARY)
        return own is not None and own == other.metadata.get(VOCABULARY)

    def speaks_like(self, other: GGUFHeader) -> bool:
        """Whether both have one vocabulary and one chat template, as the levels of a model have: a
        prompt format that is right for one is for the other."""
        return self.has_tokens_of(other) and self.text(TEMPLATE) == other.text(TEMPLATE)

    def number(self, key: str) -> int | None:
        """The integer at ``key``; ``{arch}`` in it stands for the architecture."""
        value = self.metadata.get(key.replace("{arch}", self.architecture))
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def numbers(self, key: str, count: int) -> tuple[int, ...] | None:
        """``count`` integers at ``key``: an array of them, or one number for all (layers)."""
        value = self.metadata.get(key.replace("{arch}", self.architecture))
        if isinstance(value, GGUFArray):
            whole = value.count == count and value.element_type[0] in "iu"
            return tuple(int(item) for item in value) if whole else None
        number = self.number(key)
        return None if number is None else (number,) * count
