"""Whether weights are finite: whole numbers, or the scales of quantized blocks, without NaN or Inf.

It knows where each ggml type keeps its scales and looks at nothing but their exponent bits, as
``ggml_validate_row_data`` in llama.cpp's ``ggml/src/ggml-quants.c`` does (the offsets are those of
the structs in ``ggml-common.h``), but says nothing on stderr and tells which block is bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convert.sources.source_file import Bytes
from convert.sources.tensors import BLOCKS

Unsigned = npt.NDArray[np.unsignedinteger]

SLICE = 1 << 16  # fields looked at together: their masked copy stays in the cache


@dataclass(frozen=True)
class Field:
    """An unsigned little-endian number at ``offset`` bytes in a block, which must have
    ``(number & mask) < limit``."""

    offset: int
    dtype: str
    mask: int
    limit: int


def _half(offset: int) -> Field:
    return Field(offset, "<u2", 0x7C00, 0x7C00)


def _single(offset: int) -> Field:
    return Field(offset, "<u4", 0x7F80_0000, 0x7F80_0000)


# ggml type -> its scales. Types without an entry (integers, and NVFP4, whose UE4M3 scales have no
# Inf, and whose NaN counts as 0) are always finite.
FIELDS: Mapping[str, tuple[Field, ...]] = {
    "F32": (_single(0),),
    "F16": (_half(0),),
    "BF16": (Field(0, "<u2", 0x7F80, 0x7F80),),
    # A double that rounds to no finite float is refused too: all arithmetic is in float.
    "F64": (Field(0, "<u8", 0x7FFF_FFFF_FFFF_FFFF, 0x47EF_FFFF_F000_0000),),
    "Q1_0": (_half(0),),
    "Q2_0": (_half(0),),
    "Q4_0": (_half(0),),
    "Q4_1": (_half(0), _half(2)),
    "Q5_0": (_half(0),),
    "Q5_1": (_half(0), _half(2)),
    "Q8_0": (_half(0),),
    "Q8_1": (_half(0), _half(2)),  # no type of a file: ggml's function refuses it as a whole
    "Q2_K": (_half(80), _half(82)),
    "Q3_K": (_half(108),),
    "Q4_K": (_half(0), _half(2)),
    "Q5_K": (_half(0), _half(2)),
    "Q6_K": (_half(208),),
    "Q8_K": (_single(0),),
    "TQ1_0": (_half(52),),
    "TQ2_0": (_half(64),),
    "IQ1_S": (_half(0),),
    # One half in the top four bits of four 16-bit numbers from 48 on. Its exponent is the top two
    # bits of the third and three of the fourth: here both at once.
    "IQ1_M": (Field(52, "<u4", 0x7000_C000, 0x7000_C000),),
    "IQ2_XXS": (_half(0),),
    "IQ2_XS": (_half(0),),
    "IQ2_S": (_half(0),),
    "IQ3_XXS": (_half(0),),
    "IQ3_S": (_half(0),),
    "IQ4_NL": (_half(0),),
    "IQ4_XS": (_half(0),),
    "MXFP4": (Field(0, "u1", 0xFF, 0xFF),),  # E8M0: all ones is NaN
}


def first_not_finite(type_name: str, data: Bytes) -> int | None:
    """The index of the first block with a scale that is NaN or Inf, None when all are finite.

    ``data``: uint8, whole blocks of the ggml type ``type_name`` (of any shape, in row-major
    order). The blocks of F32, F16, BF16 and F64 are their elements. Takes no memory to speak of.
    """
    block_bytes = BLOCKS[type_name][1]
    blocks = data.reshape(-1, block_bytes)
    found = [_first_bad(blocks, field) for field in FIELDS.get(type_name, ())]
    return min((index for index in found if index is not None), default=None)


def _first_bad(blocks: Bytes, field: Field) -> int | None:
    dtype = np.dtype(field.dtype)
    end = field.offset + dtype.itemsize
    numbers = blocks[:, field.offset : end].view(dtype)[:, 0]
    mask, limit = dtype.type(field.mask), dtype.type(field.limit)
    for start, masked in _masked_slices(numbers, mask):
        if masked.max() >= limit:
            return start + int(np.argmax(masked >= limit))
    return None


def _masked_slices(numbers: Unsigned, mask: np.unsignedinteger) -> Iterator[tuple[int, Unsigned]]:
    """``numbers & mask`` a slice at a time, each in the same memory, with where it starts."""
    memory = np.empty(min(SLICE, len(numbers)), numbers.dtype)
    for start in range(0, len(numbers), SLICE):
        part = numbers[start : start + SLICE]
        yield start, np.bitwise_and(part, mask, out=memory[: len(part)])
