"""What every source of weights looks like: named tensors, of which any range of rows can be read.

A checkpoint is never in memory as a whole. dtypes are ggml's type names ("F32", "F16", "BF16", and
the quantized ones for GGUF sources), shapes are Hugging Face's: outermost dimension first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fwlocal.gguf import GGML_TYPES

Bytes = npt.NDArray[np.uint8]

BLOCKS = {name: (block, size) for name, block, size in GGML_TYPES.values()}
FLOATS = ("F32", "F16", "BF16")

# The GGUF keys, arrays of hex strings, with the SHA-256 of every tensor and of every source file.
TENSOR_HASHES, SOURCE_HASHES = "fwlocal.tensor.sha256", "fwlocal.source.sha256"
# A digest of the tensors' names, types and shapes: tools that make another file of one with hashes
# copy these, too, and the hashes are then not of the file they are in.
TENSOR_TABLE = "fwlocal.tensor.table"


def table_digest(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> str:
    """Of (name, ggml type, shape as ggml counts it), in the file's order."""
    lines = (f"{name} {type_name} {shape}\n" for name, type_name, shape in tensors)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def row_bytes(type_name: str, n_per_row: int) -> int:
    """Bytes of one row of ``n_per_row`` elements, a multiple of the type's block."""
    block, size = BLOCKS[type_name]
    return n_per_row // block * size


@dataclass(frozen=True)
class SourceTensor:
    """One tensor of a source. ``file`` is where its bytes are, for messages and for the order in
    which a source is read best: by file, then by ``offset``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int

    @property
    def n_rows(self) -> int:
        """Rows: all dimensions but the innermost; the elements of a vector are one row."""
        return math.prod(self.shape[:-1])

    @property
    def n_per_row(self) -> int:
        """Elements of one row."""
        return self.shape[-1]

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.n_rows * row_bytes(self.dtype, self.n_per_row)


@dataclass(frozen=True)
class StoredRange:
    """Bytes of a file that carry a checksum, as the entries of a zip do."""

    name: str
    offset: int
    size_bytes: int
    crc32: int


class TensorSource(Protocol):
    """A file, a sharded checkpoint, or a base with its delta."""

    @property
    def tensors(self) -> Mapping[str, SourceTensor]:
        """All tensors by name."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the weights, each once, in their order."""

    @property
    def checksums(self) -> Mapping[Path, tuple[StoredRange, ...]]:
        """What can be checked when a file is read whole, by file."""

    def read_rows(self, name: str, first: int, count: int) -> Bytes:
        """The bytes of ``count`` rows from ``first``, little-endian, rows contiguous.

        Raises BadCheckpoint when the file no longer holds them.
        """

    def close(self) -> None:
        """Give the files back."""
