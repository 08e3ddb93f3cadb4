"""llama.cpp's importance matrices: for each tensor, how much each column of its rows matters.

``llama-imatrix`` writes them in two formats: as GGUF (sums of squared activations and how many
were added), and, formerly, as a plain list of records (.dat). Both are read here into the float32
values that ``llama-quantize --imatrix`` hands to the quantizer, bit for bit.

Source: ``common/imatrix-loader.cpp`` and ``load_imatrix`` in ``tools/quantize/quantize.cpp``.
Nothing is allocated on the file's word: every count and length is held against its size first.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fwlocal.errors import BadCheckpoint
from fwlocal.gguf import MAGIC, MAX_NAME_BYTES, GGUFArray, GGUFHeader, TensorInfo, read_header

Floats = npt.NDArray[np.float32]

REMEDY = "make it with llama-imatrix -m MODEL -f TEXT -o FILE"
SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNK_COUNT, CHUNK_SIZE = (
    "imatrix.datasets",
    "imatrix.chunk_count",
    "imatrix.chunk_size",
)
# llama-quantize ignores the matrix of this tensor when it does not fit: it is looked up by token
# and multiplied with activations only where it is the output too.
MAX_WEIGHT = 1e36  # ggml's IQ kernels overflow near float32's limit, and end the process
MAY_NOT_FIT = ("token_embd.weight",)

_MIN_RECORD_BYTES = 17  # name length, a name of one byte, calls, value count, one value


@dataclass(frozen=True)
class ImportanceMatrix:
    """The weights of the columns of each tensor, by the tensor's GGUF name.

    ``weights`` are float32 of n_per_row each (times the experts, for a tensor that has them),
    finite and not negative, read-only. ``n_chunks`` of the ``datasets`` (the names of the texts)
    were seen to compute them; 0 and () when the file does not tell.
    """

    path: Path
    datasets: tuple[str, ...]
    n_chunks: int
    weights: Mapping[str, Floats]


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read the importance matrix at ``path``, in either format.

    Raises BadCheckpoint, naming what is wrong, for anything but a whole importance matrix with
    finite values, and BadModelFile when it is a damaged GGUF.
    """
    if path.exists() and not path.is_file():
        raise BadCheckpoint(f"{path}: is no regular file; name the importance matrix")
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            return _read_gguf(file, read_header(path)) if is_gguf else _DatReader(path, file).read()
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from error


def weights_for(matrix: ImportanceMatrix, name: str, n_per_row: int) -> Floats | None:
    """The weights of the tensor called ``name``, None when the matrix has none for it.

    Raises BadCheckpoint when there are not ``n_per_row`` of them: the matrix is of another model.
    """
    weights = matrix.weights.get(name)
    if weights is None or len(weights) == n_per_row:
        return weights
    if name in MAY_NOT_FIT:
        return None
    raise BadCheckpoint(
        f"{matrix.path}: {name} has {len(weights)} weights, its rows here have {n_per_row}: "
        f"the importance matrix of another model; {REMEDY} for this one"
    )


def _damaged(path: Path, what: str) -> BadCheckpoint:
    return BadCheckpoint(f"{path}: no sound importance matrix: {what}; {REMEDY}")


def _checked(path: Path, name: str, values: Floats) -> Floats:
    """``values``, unless one of them is negative, NaN, Inf, or so large that kernels abort."""
    bad = np.flatnonzero(~((values >= 0) & (values <= MAX_WEIGHT)))
    if bad.size:
        raise _damaged(path, f"value {bad[0]} of {name} is {values[bad[0]]}")
    return values


def _divided(sums: Floats, count: Floats | np.float32) -> Floats:
    weights = sums / count
    weights.setflags(write=False)
    return weights


# The GGUF format: NAME.in_sum2 [n_per_row, n_experts] and NAME.counts [1, n_experts], both F32.


def _read_gguf(file: BinaryIO, header: GGUFHeader) -> ImportanceMatrix:
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
    weights = {
        name: _gguf_weights(file, header, name, tensors)
        for name in dict.fromkeys(map(_entry_of, tensors))
        if name
    }
    if not weights:
        raise _damaged(path, "it holds no weights")
    return ImportanceMatrix(path, tuple(map(str, datasets)), numbers[CHUNK_COUNT] or 0, weights)


def _entry_of(tensor_name: str) -> str:
    """The name of the model's tensor that ``tensor_name`` tells of, "" for none."""
    for suffix in (SUMS, COUNTS):
        if tensor_name.endswith(suffix):
            return tensor_name.removesuffix(suffix)
    return ""


def _gguf_weights(
    file: BinaryIO, header: GGUFHeader, name: str, tensors: Mapping[str, TensorInfo]
) -> Floats:
    """Sums by counts; an expert that no text reached (count 0) weighs all its columns alike."""
    if name + SUMS not in tensors or name + COUNTS not in tensors:
        missing = SUMS if name + SUMS not in tensors else COUNTS
        raise _damaged(header.path, f"{name}{missing} is missing")
    sums = _gguf_tensor(file, header, tensors[name + SUMS])
    counts = _gguf_tensor(file, header, tensors[name + COUNTS])
    if len(sums) % len(counts):
        raise _damaged(header.path, f"{name} has {len(sums)} sums for {len(counts)} counts")
    # Counts are whole numbers stored as floats; lround() there rounds halves up, as here.
    whole = np.floor(counts.astype(np.float64) + 0.5).astype(np.float32)[:, np.newaxis]
    rows = sums.reshape(len(counts), -1)
    rows = np.where(whole > 0, rows, np.float32(1))
    return _divided(rows, np.maximum(whole, np.float32(1))).reshape(-1)


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

    def read(self) -> ImportanceMatrix:
        n_records = self.number("the number of tensors")
        if not 1 <= n_records <= self.left // _MIN_RECORD_BYTES:
            raise _damaged(self.path, f"it claims {n_records} tensors in {self.left} bytes")
        weights: dict[str, Floats] = {}
        for index in range(n_records):
            name = self.name(f"the name of tensor {index}")
            if name in weights:
                raise _damaged(self.path, f"{name} is there twice")
            weights[name] = self.values(name)
        n_chunks = self.number("the number of chunks") if self.left else 0
        dataset = self.text("the data set's name") if self.left else ""
        if self.left or n_chunks < 0:
            raise _damaged(self.path, f"{n_chunks} chunks, and {self.left} bytes too many")
        return ImportanceMatrix(self.path, (dataset,) if dataset else (), n_chunks, weights)

    def values(self, name: str) -> Floats:
        calls = self.number(f"the calls of {name}")
        count = self.number(f"the number of values of {name}")
        if calls < 0 or count < 1:
            raise _damaged(self.path, f"{name} claims {calls} calls and {count} values")
        data = self.take(4 * count, f"the values of {name}")
        sums = _checked(self.path, name, np.frombuffer(data, "<f4").astype(np.float32))
        return _divided(sums, np.float32(max(calls, 1)))

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
