"""llama.cpp's importance matrices from files: for each tensor, how much each column matters.

They come in two formats: as GGUF (sums of squared activations and how many were added), and,
formerly, as a plain list of records (.dat). Both are read here into the very sums, and into the
float32 values that ``llama-quantize --imatrix`` hands to the quantizer, bit for bit.

Source: ``common/imatrix-loader.cpp`` and ``load_imatrix`` in ``tools/quantize/quantize.cpp``.
Nothing is allocated on the file's word: every count and length is held against its size first.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.imatrix.entries import (
    MAX_SUM,
    REMEDY,
    Counts,
    Entry,
    Floats,
    ImportanceMatrix,
    Sums,
    weights_of,
)
from fwlocal.errors import BadCheckpoint
from fwlocal.gguf import MAGIC, MAX_NAME_BYTES, GGUFArray, GGUFHeader, TensorInfo, read_header

SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNK_COUNT, CHUNK_SIZE = (
    "imatrix.datasets",
    "imatrix.chunk_count",
    "imatrix.chunk_size",
)
OWN_KEYS = "fwlocal.imatrix."

_MIN_RECORD_BYTES = 17  # name length, a name of one byte, calls, value count, one value
_MAX_COUNT = 2**53  # rows that a float64 tells apart


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read the importance matrix at ``path``, in either format, as weights.

    Raises BadCheckpoint, naming what is wrong, for anything but a whole importance matrix with
    finite values, and BadModelFile when it is a damaged GGUF.
    """
    sums = read_sums(path)
    weights = {n: weights_of(entry, is_mean=sums.is_mean) for n, entry in sums.entries.items()}
    return ImportanceMatrix(path, sums.datasets, sums.n_chunks, weights)


def read_sums(path: Path) -> Sums:
    """The same as the sums and counts that are in the file; raises as ``read_imatrix``."""
    if path.exists() and not path.is_file():
        raise BadCheckpoint(f"{path}: is no regular file; name the importance matrix")
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            return _read_gguf(file, read_header(path)) if is_gguf else _DatReader(path, file).read()
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from error


def _damaged(path: Path, what: str) -> BadCheckpoint:
    return BadCheckpoint(f"{path}: no sound importance matrix: {what}; {REMEDY}")


def _checked(path: Path, name: str, values: Floats) -> Floats:
    """``values``, unless one of them is negative, NaN, Inf, or so large that kernels abort."""
    bad = np.flatnonzero(~((values >= 0) & (values <= MAX_SUM)))
    if bad.size:
        raise _damaged(path, f"value {bad[0]} of {name} is {values[bad[0]]}")
    return values


# The GGUF format: NAME.in_sum2 [n_per_row, n_experts] and NAME.counts [1, n_experts], both F32.


def _read_gguf(file: BinaryIO, header: GGUFHeader) -> Sums:
    path = header.path
    kind = header.text("general.type")
    if kind != "imatrix":
        raise _damaged(path, f"general.type is {kind!r}, not 'imatrix'")
    datasets = header.metadata.get(DATASETS)
    if not isinstance(datasets, GGUFArray) or datasets.element_type != "string":
        raise _damaged(path, f"{DATASETS} is missing or no list of strings")
    numbers = {key: header.number(key) for key in (CHUNK_COUNT, CHUNK_SIZE)}
    for key, number in numbers.items():
        if number is None or number < 0:
            raise _damaged(path, f"{key} is missing or no count")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    entries = {
        name: _gguf_entry(file, header, name, tensors)
        for name in dict.fromkeys(map(_entry_of, tensors))
        if name
    }
    if not entries:
        raise _damaged(path, "it holds no weights")
    own = {
        key: value
        for key, value in header.metadata.items()
        if key.startswith(OWN_KEYS) and isinstance(value, str | int)
    }
    n_chunks, chunk_size = (numbers[key] or 0 for key in (CHUNK_COUNT, CHUNK_SIZE))
    return Sums(entries, tuple(map(str, datasets)), n_chunks, chunk_size, own)


def _entry_of(tensor_name: str) -> str:
    """The name of the model's tensor that ``tensor_name`` tells of, "" for none."""
    for suffix in (SUMS, COUNTS):
        if tensor_name.endswith(suffix):
            return tensor_name.removesuffix(suffix)
    return ""


def _gguf_entry(
    file: BinaryIO, header: GGUFHeader, name: str, tensors: Mapping[str, TensorInfo]
) -> Entry:
    if name + SUMS not in tensors or name + COUNTS not in tensors:
        missing = SUMS if name + SUMS not in tensors else COUNTS
        raise _damaged(header.path, f"{name}{missing} is missing")
    sums = _gguf_tensor(file, header, tensors[name + SUMS])
    counts = _gguf_tensor(file, header, tensors[name + COUNTS])
    if not len(counts) or len(sums) % len(counts):
        raise _damaged(header.path, f"{name} has {len(sums)} sums for {len(counts)} counts")
    return Entry(sums, _whole(header.path, name, counts))


def _whole(path: Path, name: str, counts: Floats) -> Counts:
    """Whole numbers stored as floats; lround() in llama.cpp rounds halves up, as here."""
    if (counts > _MAX_COUNT).any():
        raise _damaged(path, f"{name}{COUNTS} claims {counts.max():g} rows")
    whole: Counts = np.floor(counts.astype(np.float64) + 0.5).astype(np.int64)
    return whole


def _gguf_tensor(file: BinaryIO, header: GGUFHeader, tensor: TensorInfo) -> Floats:
    if tensor.type_name != "F32":
        raise _damaged(header.path, f"{tensor.name} is {tensor.type_name}, not F32")
    file.seek(header.data_offset + tensor.offset)
    data = file.read(tensor.size_bytes)
    if len(data) != tensor.size_bytes:
        raise _damaged(header.path, f"it ends inside {tensor.name}")
    return _checked(header.path, tensor.name, np.frombuffer(data, "<f4").astype(np.float32))


class _DatReader:
    """A cursor over the older format, all little-endian and int32: the number of records; for each
    the name (length, bytes), the calls, the values (length, float32); then, both optional, the
    number of chunks and the data set's name."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.left = file.seek(0, 2)
        file.seek(0)

    def read(self) -> Sums:
        n_records = self.number("the number of tensors")
        if not 1 <= n_records <= self.left // _MIN_RECORD_BYTES:
            raise BadCheckpoint(f"{self.path}: is no importance matrix; {REMEDY}")
        entries: dict[str, Entry] = {}
        for index in range(n_records):
            name = self.name(f"the name of tensor {index}")
            if name in entries:
                raise _damaged(self.path, f"{name} is there twice")
            entries[name] = self.entry(name)
        n_chunks = self.number("the number of chunks") if self.left else 0
        dataset = self.text("the data set's name") if self.left else ""
        if self.left or n_chunks < 0:
            raise _damaged(self.path, f"{n_chunks} chunks, and {self.left} bytes too many")
        return Sums(entries, (dataset,) if dataset else (), n_chunks, is_mean=True)

    def entry(self, name: str) -> Entry:
        calls = self.number(f"the calls of {name}")
        count = self.number(f"the number of values of {name}")
        if calls < 0 or count < 1:
            raise _damaged(self.path, f"{name} claims {calls} calls and {count} values")
        data = self.take(4 * count, f"the values of {name}")
        sums = _checked(self.path, name, np.frombuffer(data, "<f4").astype(np.float32))
        return Entry(sums, np.array([calls], np.int64))

    def name(self, what: str) -> str:
        name = self.text(what)
        if not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
            raise _damaged(self.path, f"{what} is none: {name[:MAX_NAME_BYTES]!r}")
        return name

    def text(self, what: str) -> str:
        length = self.number(f"the length of {what}")
        return self.take(length, what).decode("utf-8", "replace")

    def number(self, what: str) -> int:
        (value,) = struct.unpack("<i", self.take(4, what))
        return int(value)

    def take(self, count: int, what: str) -> bytes:
        if not 0 <= count <= self.left:
            raise _damaged(self.path, f"{what} needs {count} bytes, {self.left} are left")
        data = self.file.read(count)
        if len(data) != count:
            raise _damaged(self.path, f"it ends inside {what}")
        self.left -= count
        return data
