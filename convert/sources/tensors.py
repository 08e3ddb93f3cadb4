"""What every source of weights looks like: named tensors, of which any range of rows can be read.

A checkpoint is never in memory as a whole. dtypes are ggml's type names ("F32", "F16", "BF16", and
the quantized ones for GGUF sources), shapes are Hugging Face's: outermost dimension first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convert.sources.source_file import Bytes, SourceFile
from fwlocal.gguf import GGML_TYPES

BLOCKS = {name: (block, size) for name, block, size in GGML_TYPES.values()}
FLOATS = ("F32", "F16", "BF16")

# The GGUF keys, arrays of hex strings, with the SHA-256 of every tensor and of every source file.
# Of a remote file that is the Hub's name of its content: it says what the source is. Whether all of
# it was held against that hash is told when the conversion ends (``convert.checked``).
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


@dataclass(frozen=True)
class Extent:
    """Where a tensor's bytes are: from ``begin`` up to ``end`` in ``file``; ``in_order`` when its
    rows follow each other there."""

    name: str
    file: SourceFile
    begin: int
    end: int
    in_order: bool = True


class Tensors(Protocol):
    """Named tensors, of which any rows can be read."""

    @property
    def tensors(self) -> Mapping[str, SourceTensor]:
        """All tensors by name."""

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files that hold the weights, each once, in their order."""

    @property
    def checksums(self) -> Mapping[Path, tuple[StoredRange, ...]]:
        """What can be checked when a file is read whole, by file."""

    def read_rows(self, name: str, first: int, count: int) -> Bytes:
        """The bytes of ``count`` rows from ``first``, little-endian, rows contiguous.

        Raises BadCheckpoint when the file no longer holds them, NetworkError.
        """

    def close(self) -> None:
        """Give the files back."""


class FileSource(Tensors, Protocol):
    """The tensors of one file."""

    def extent(self, name: str) -> Extent:
        """Where a tensor is."""


class TensorSource(Tensors, Protocol):
    """A checkpoint, or a base with its delta.

    Whoever reads it all says so (``expect``), asks before reading on (``has_room``) and tells what
    is safe (``done``), so that bytes from the network come early, and few are lost when the
    process is killed.
    """

    def extents(self, name: str) -> tuple[Extent, ...]:
        """Where a tensor is: in one file, or in a base's and its delta's."""

    def expect(self, names: Sequence[str]) -> None:
        """These tensors will be read, whole, in this order, their rows in order, too."""

    def has_room(self, name: str, end_row: int) -> bool:
        """Whether rows up to ``end_row`` may be read before all that was read is ``done``."""

    def done(self, name: str) -> None:
        """What was made of this tensor is safe on the disk."""
