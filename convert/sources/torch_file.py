"""torch's zip checkpoints (``pytorch_model-*.bin``, ``.pt``, ``.pth``), read without torch.

Such a file is a zip of stored entries in one folder: ``data.pkl``, a pickle whose tensors point at
storages by key, and each storage's bytes as ``data/<key>``.

The format: ``_save`` and ``_load`` in torch/serialization.py.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.sources.source_file import Bytes, SourceFile
from convert.sources.tensors import Extent, SourceTensor, StoredRange
from convert.sources.torch_pickle import FETCH, RESAVE, STORAGES, Storage, Tensor, shown, state_dict
from convert.sources.torch_zip import MAX_SMALL_BYTES, read_entries
from fwlocal.errors import BadCheckpoint

MAX_DIMS = 64  # torch's own
MAX_REPEATED = 1 << 26  # elements of a view that has more of them than its storage
SPAN_BYTES = 1 << 22  # read at once where the elements of a view do not lie side by side


@dataclass(frozen=True)
class _View:
    """A checked tensor, of two dimensions or more: where in the file, strides in elements."""

    start: int
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def end(self) -> int:
        """Of its last element, in the file."""
        if not math.prod(self.shape):
            return self.start
        reach = sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        return self.start + (reach + 1) * self.itemsize

    @property
    def in_order(self) -> bool:
        """Whether its elements lie side by side, row after row."""
        expected = 1
        for size, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if size > 1 and stride != expected:
                return False
            expected *= size
        return True


class TorchFile:
    """A torch checkpoint as a FileSource; for one thread at a time.

    ``tensors`` are those of the state dict, or of the one under "state_dict" or "model". Integer
    and boolean tensors are listed too, with dtypes such as "I64", "U8" and "BOOL". ``checksums``
    are the entries with weights, by offset: they are for the caller to check, in one pass over the
    file; the pickle's is checked here. Raises BadCheckpoint for anything unsound or not understood.
    """

    tensors: Mapping[str, SourceTensor]
    files: tuple[SourceFile, ...]
    checksums: Mapping[Path, tuple[StoredRange, ...]]

    def __init__(self, file: SourceFile) -> None:
        """Takes ``file`` over."""
        self.path = file.path
        self.files = (file,)
        self._file = file
        self._held: tuple[str, Bytes] | None = None  # a remote tensor that is not in order
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read_rows(self, name: str, first: int, count: int) -> Bytes:
        """The bytes of ``count`` rows from ``first``, as one vector, whatever the strides are.

        Raises BadCheckpoint for a tensor without elements and for a file truncated since.
        """
        view, n_rows = self._views[name], self.tensors[name].n_rows
        if not math.prod(view.shape):
            raise BadCheckpoint(f"{self.path}: {name} has no elements; {FETCH}")
        if not 0 <= first <= first + count <= n_rows:
            raise ValueError(f"rows {first} to {first + count} of {name}, which has {n_rows}")
        out = np.empty((count, view.shape[-1]), f"u{view.itemsize}")
        for matrix, start, row_stride in _matrices(view, first, out):
            self._gather(name, matrix, start, (row_stride, view.strides[-1]))
        return out.reshape(-1).view(np.uint8)

    def extent(self, name: str) -> Extent:
        """Where the tensor is."""
        view = self._views[name]
        return Extent(name, self._file, view.start, view.end, view.in_order)

    def _fill(self, buffer: Bytes, offset: int, name: str) -> None:
        """From the file. A remote tensor of scattered rows comes once, whole, and stays until the
        next one is read: many small requests would take much longer."""
        view = self._views[name]
        if not self._file.is_remote or view.in_order:
            self._held = None
            self._file.fill(buffer, offset, name)
            return
        if self._held is None or self._held[0] != name:
            self._held = None  # not both in memory
            self._held = (name, self._file.read(view.start, view.end - view.start, name))
        start = offset - view.start
        buffer[:] = self._held[1][start : start + buffer.size]

    def _gather(
        self, name: str, out: np.ndarray[Any, Any], start: int, strides: tuple[int, int]
    ) -> None:
        """Fill the matrix ``out``: its first element is at ``start`` in the file, the others by
        ``strides``, in elements. Reads along the axis whose elements lie closer together."""
        rows, columns = out.shape
        if (columns == 1 or strides[1] == 1) and (rows == 1 or strides[0] == columns):
            self._fill(out.reshape(-1).view(np.uint8), start, name)
            return
        if strides[0] < strides[1]:
            out, strides = out.T, (strides[1], strides[0])
        far, near = (stride * out.itemsize for stride in strides)
        step = max(1, SPAN_BYTES // max(near, 1))
        for index, line in enumerate(out):
            for first in range(0, len(line), step):
                part = line[first : first + step]
                span = np.empty((len(part) - 1) * strides[1] + 1, out.dtype)
                self._fill(span.view(np.uint8), start + index * far + first * near, name)
                part[:] = span[:: max(strides[1], 1)]

    def _read_header(self) -> None:
        entries = read_entries(self._file)
        pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise BadCheckpoint(
                f"{self.path}: a zip, but no torch checkpoint: expected one <folder>/data.pkl, "
                f"found {len(pickles)}; name a file written by torch.save"
            )
        folder = pickles[0].removesuffix("data.pkl")
        order = entries.get(f"{folder}byteorder")
        if order is not None and self._read_small(order) != b"little":
            raise BadCheckpoint(
                f"{self.path}: written on a machine of another byte order; load it with torch "
                "and save it again on this machine"
            )
        tensors_of = state_dict(self.path, self._read_small(entries[pickles[0]]))
        storages = {
            name.removeprefix(f"{folder}data/"): entry
            for name, entry in entries.items()
            if name.startswith(f"{folder}data/")
        }
        self.checksums = {self.path: tuple(storages.values())}
        self._views: dict[str, _View] = {}
        tensors = {}
        for name, tensor in tensors_of.items():
            tensors[name], self._views[name] = _check_tensor(self.path, name, tensor, storages)
        self.tensors = tensors

    def _read_small(self, entry: StoredRange) -> bytes:
        if entry.size_bytes > MAX_SMALL_BYTES:
            raise BadCheckpoint(
                f"{self.path}: {shown(entry.name)} has {entry.size_bytes} bytes, at most "
                f"{MAX_SMALL_BYTES} expected; {RESAVE}"
            )
        data = self._file.read(entry.offset, entry.size_bytes, shown(entry.name)).tobytes()
        if zlib.crc32(data) != entry.crc32:
            raise BadCheckpoint(
                f"{self.path}: damaged: {shown(entry.name)} does not match its CRC; {FETCH}"
            )
        return data


def _check_tensor(
    path: Path, name: str, tensor: Tensor, storages: Mapping[str, StoredRange]
) -> tuple[SourceTensor, _View]:
    """The tensor, once it is certain that all of it lies in its storage's entry."""

    def fail(what: str) -> BadCheckpoint:
        return BadCheckpoint(f"{path}: {shown(name)}: {what}; {FETCH}")

    if not name.isprintable() or not isinstance(tensor.storage, Storage):
        raise fail("is no tensor with a printable name")
    storage, (offset, shape, strides) = tensor.storage, _geometry(tensor, fail)
    dtype, itemsize = STORAGES[storage.type_name]
    entry = storages.get(storage.key)
    if entry is None or entry.size_bytes // itemsize != storage.numel:
        found = "it is missing" if entry is None else f"it has {entry.size_bytes} bytes"
        key = shown(storage.key)
        raise fail(f"its storage data/{key} should have {storage.numel} of {dtype}, but {found}")
    n_elements = math.prod(shape)
    reach = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if (n_elements and offset + reach >= storage.numel) or offset > storage.numel:
        raise fail(f"runs past the end of its storage of {storage.numel} elements")
    if n_elements > max(storage.numel, MAX_REPEATED):
        raise fail(f"repeats {storage.numel} elements of its storage to make {n_elements}")
    start = entry.offset + offset * itemsize
    view = _View(start, itemsize, (1, *shape), (0, *strides))
    return SourceTensor(name, dtype, shape, path, start), view


def _geometry(
    tensor: Tensor, fail: Callable[[str], BadCheckpoint]
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Offset, shape and strides, in elements; a scalar is a vector of one element."""
    offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
    if not (isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise fail("its shape or its strides are no tuples")
    if any(type(number) is not int for number in (offset, *shape, *strides)):
        raise fail("its offset, shape or strides are no integers")
    if len(shape) != len(strides) or len(shape) > MAX_DIMS:
        raise fail(f"it has {len(shape)} dimensions, but {len(strides)} strides")
    if any(not 0 <= number < 1 << 63 for number in (offset, *shape, *strides)):
        found = shown(f"{list(shape)}, strides {list(strides)}, offset {offset}")
        raise fail(f"it has the impossible shape {found}")
    return offset, shape or (1,), strides or (1,)


def _matrices(
    view: _View, first: int, out: np.ndarray[Any, Any]
) -> Iterator[tuple[np.ndarray[Any, Any], int, int]]:
    """``out``, whose rows are the view's from ``first``, cut where the outer dimensions advance:
    each piece with the position of its first element in the file and its stride of rows."""
    n_rows, done = view.shape[-2], 0
    while done < len(out):
        outer, row = divmod(first + done, n_rows)
        count = min(n_rows - row, len(out) - done)
        start = row * view.strides[-2]
        for size, stride in zip(view.shape[-3::-1], view.strides[-3::-1], strict=True):
            outer, index = divmod(outer, size)
            start += index * stride
        yield out[done : done + count], view.start + start * view.itemsize, view.strides[-2]
        done += count
