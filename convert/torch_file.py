"""torch's zip checkpoints (``pytorch_model-*.bin``, ``.pt``, ``.pth``), read without torch.

Such a file is a zip of stored entries in one folder: ``data.pkl``, a pickle whose tensors point at
storages by key, and each storage's bytes as ``data/<key>``. The pickle is never unpickled: a small
machine with the opcodes of a state dict reads it, and nothing the file names is imported or called.

The format: ``_save`` and ``_load`` in torch/serialization.py; the opcodes: Python's pickletools.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.tensors import Bytes, SourceTensor
from fwlocal.errors import BadCheckpoint

MAX_SMALL_BYTES = 16 << 20  # of the pickle, and of the zip's directory; 60,000 tensors
MAX_OPCODES = 4_000_000
MAX_DIMS = 64  # torch's own
MAX_REPEATED = 1 << 26  # elements of a view that has more of them than its storage
SPAN_BYTES = 1 << 22  # read at once where the elements of a view do not lie side by side

FETCH = "fetch or copy the file again"
RESAVE = "if you trust it, load it with torch and save its state dict alone again"


@dataclass(frozen=True)
class StoredRange:
    """One entry of the zip: where its bytes are in the file, and their checksum."""

    name: str
    offset: int
    size_bytes: int
    crc32: int


@dataclass(frozen=True)
class _View:
    """A checked tensor, of two dimensions or more: where in the file, strides in elements."""

    start: int
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """A torch checkpoint as a TensorSource; for one thread at a time.

    ``tensors`` are those of the state dict, or of the one under "state_dict" or "model". Integer
    and boolean tensors are listed too, with dtypes such as "I64", "U8" and "BOOL". ``checksums``
    are the entries with weights, by offset: they are for the caller to check, in one pass over the
    file; the pickle's is checked here. Raises BadCheckpoint for anything unsound or not understood.
    """

    tensors: Mapping[str, SourceTensor]
    files: tuple[Path, ...]
    checksums: tuple[StoredRange, ...]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)
        try:
            self._file = _BoundedReader(io.FileIO(path))
        except OSError as error:
            raise BadCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from error
        try:
            self._read_header()
        except OSError as error:
            self.close()
            raise BadCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from error
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

    def _gather(
        self, name: str, out: np.ndarray[Any, Any], start: int, strides: tuple[int, int]
    ) -> None:
        """Fill the matrix ``out``: its first element is at ``start`` in the file, the others by
        ``strides``, in elements. Reads along the axis whose elements lie closer together."""
        rows, columns = out.shape
        if (columns == 1 or strides[1] == 1) and (rows == 1 or strides[0] == columns):
            self._fill(name, out, start)
            return
        if strides[0] < strides[1]:
            out, strides = out.T, (strides[1], strides[0])
        far, near = (stride * out.itemsize for stride in strides)
        step = max(1, SPAN_BYTES // max(near, 1))
        for index, line in enumerate(out):
            for first in range(0, len(line), step):
                part = line[first : first + step]
                span = np.empty((len(part) - 1) * strides[1] + 1, out.dtype)
                self._fill(name, span, start + index * far + first * near)
                part[:] = span[:: max(strides[1], 1)]

    def _fill(self, name: str, out: np.ndarray[Any, Any], offset: int) -> None:
        """Read into the contiguous ``out``; no memory map, where a truncated file would kill."""
        try:
            self._file.seek(offset)
            got = self._file.readinto(out.reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise BadCheckpoint(f"{self.path}: {name}: {error.strerror or error}") from error
        if got != out.nbytes:
            raise BadCheckpoint(
                f"{self.path}: truncated since it was opened: {name} has {got} of {out.nbytes} "
                f"bytes at {offset}; {FETCH}"
            )

    def _read_header(self) -> None:
        entries = _read_entries(self.path, self._file)
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
        top = _Machine(self.path).run(self._read_small(entries[pickles[0]]))
        storages = {
            name.removeprefix(f"{folder}data/"): entry
            for name, entry in entries.items()
            if name.startswith(f"{folder}data/")
        }
        self.checksums = tuple(storages.values())
        self._views: dict[str, _View] = {}
        tensors = {}
        for name, tensor in _state_dict(self.path, top).items():
            tensors[name], self._views[name] = _check_tensor(self.path, name, tensor, storages)
        self.tensors = tensors

    def _read_small(self, entry: StoredRange) -> bytes:
        if entry.size_bytes > MAX_SMALL_BYTES:
            raise BadCheckpoint(
                f"{self.path}: {_shown(entry.name)} has {entry.size_bytes} bytes, at most "
                f"{MAX_SMALL_BYTES} expected; {RESAVE}"
            )
        self._file.seek(entry.offset)
        data = self._file.read(entry.size_bytes)
        if zlib.crc32(data) != entry.crc32:
            raise BadCheckpoint(
                f"{self.path}: damaged: {_shown(entry.name)} does not match its CRC; {FETCH}"
            )
        return data


class _BoundedReader(io.BufferedReader):
    """A file that gives no huge pieces, since zipfile believes the size of a zip's directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_SMALL_BYTES:
            raise zipfile.BadZipFile(f"it claims a directory of {size} bytes")
        return super().read(size)


def _read_entries(path: Path, file: _BoundedReader) -> dict[str, StoredRange]:
    """All entries by name, in the order of their offsets: stored, inside the file, disjoint."""
    infos = _read_directory(path, file)
    file_size = file.seek(0, 2)
    entries: dict[str, StoredRange] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = _shown(info.filename)
        if info.filename in entries:
            raise BadCheckpoint(f"{path}: two entries are called {name}; {FETCH}")
        if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED:
            kind = "encrypted" if info.flag_bits & 1 else "compressed"
            raise BadCheckpoint(f"{path}: {name} is {kind}, torch never does that; {RESAVE}")
        if not end <= info.header_offset <= file_size - 30:
            raise BadCheckpoint(
                f"{path}: damaged: {name} at {info.header_offset} overlaps another entry or lies "
                f"outside the file; {FETCH}"
            )
        file.seek(info.header_offset)
        signature, n_name, n_extra = struct.unpack("<4s22xHH", file.read(30))
        offset = info.header_offset + 30 + n_name + n_extra
        end = offset + info.file_size
        if signature != b"PK\3\4" or info.compress_size != info.file_size or end > file_size:
            raise BadCheckpoint(
                f"{path}: damaged: {name} has no sound header, or runs past the end of the file; "
                f"{FETCH}"
            )
        entries[info.filename] = StoredRange(info.filename, offset, info.file_size, info.CRC)
    return entries


def _read_directory(path: Path, file: _BoundedReader) -> list[zipfile.ZipInfo]:
    head = file.read(512)
    if head[:1] == b"\x80" or head[257:262] == b"ustar":
        raise BadCheckpoint(f"{path}: torch's old format, from before its version 1.6; {RESAVE}")
    if head[:4] != b"PK\3\4":
        raise BadCheckpoint(
            f"{path}: truncated or no zip: it starts with {head[:8]!r}; name a file written by "
            "torch.save"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, struct.error):
        raise BadCheckpoint(
            f"{path}: truncated or no zip: no sound directory at its end; {FETCH}"
        ) from None


# How the file names a storage's type -> (ggml's name where there is one, bytes per element).
STORAGES: Mapping[str, tuple[str, int]] = {
    "torch.FloatStorage": ("F32", 4),
    "torch.HalfStorage": ("F16", 2),
    "torch.BFloat16Storage": ("BF16", 2),
    "torch.DoubleStorage": ("F64", 8),
    "torch.LongStorage": ("I64", 8),
    "torch.IntStorage": ("I32", 4),
    "torch.ShortStorage": ("I16", 2),
    "torch.CharStorage": ("I8", 1),
    "torch.ByteStorage": ("U8", 1),
    "torch.BoolStorage": ("BOOL", 1),
}
_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_GLOBALS = {*STORAGES, _ORDERED_DICT, _TENSOR, _PARAMETER}


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    type_name: str
    key: str
    numel: int


@dataclass(frozen=True)
class _Tensor:
    """The arguments of ``_rebuild_tensor_v2`` as the pickle gives them, not yet checked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Machine:
    """A stack machine for the pickle of a state dict. It makes dicts, lists, tuples and the few
    records above, and leaves out all that no tensor needs: keys that are no strings, and the state
    that BUILD would set (an OrderedDict's ``_metadata``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks under each MARK, as in Python's pickle
        self.memo: dict[int, Any] = {}

    def fail(self, what: str, remedy: str = RESAVE) -> BadCheckpoint:
        return BadCheckpoint(f"{self.path}: its pickle {what}; {remedy}")

    def run(self, data: bytes) -> Any:
        """The object that the pickle holds."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pickletools warns of a name's odd backslashes
                for index, (opcode, argument, _) in enumerate(pickletools.genops(data)):
                    self.step(index, opcode.name, argument)
            return self.stack.pop()
        except (ValueError, LookupError):
            raise self.fail("is damaged", FETCH) from None

    def step(self, index: int, opcode: str, argument: Any) -> None:
        step = _STEPS.get(opcode)
        if step is None or index >= MAX_OPCODES:
            raise self.fail(f"has {opcode} (opcode {index}), not as a state dict has")
        step(self, argument)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop_last(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def put(self, index: int) -> None:
        if index > MAX_OPCODES:
            raise self.fail(f"has the memo index {index}")
        self.memo[index] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise self.fail("appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise self.fail("sets items of what is no dict")
        pairs = zip(items[::2], items[1::2], strict=True)
        target.update((key, value) for key, value in pairs if isinstance(key, str))

    def build(self, _: Any) -> None:
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise self.fail("sets the state of what is no OrderedDict")

    def find(self, name: str) -> None:
        if name not in _GLOBALS:
            raise self.fail(f"calls for {_shown(name)}, which no state dict needs")
        self.push(_Global(name))

    def find_on_stack(self, _: Any) -> None:
        module, name = self.pop_last(2)
        self.find(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?")

    def storage(self, _: Any) -> None:
        match self.stack.pop():
            case ("storage", _Global(name), str(key), str(), int(numel)) if name in STORAGES:
                self.push(_Storage(name, key, numel))
            case _:
                raise self.fail("refers to something that is no storage of numbers")

    def reduce(self, _: Any) -> None:
        match self.pop_last(2):
            case [_Global(name), ()] if name == _ORDERED_DICT:
                self.push({})
            case [_Global(name), (storage, offset, shape, strides, *_)] if name == _TENSOR:
                self.push(_Tensor(storage, offset, shape, strides))
            case [_Global(name), (_Tensor() as tensor, *_)] if name == _PARAMETER:
                self.push(tensor)
            case [_Global(name), _]:
                raise self.fail(f"calls {name} with the wrong arguments")
            case _:
                raise self.fail("calls what is no function")


_PUSHED = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
)

# What protocols 2 to 5 use for a state dict; any other opcode is refused.
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(_PUSHED, _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": _Machine.mark,
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.extend(machine.pop_last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_last(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": lambda machine, names: machine.find(names.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.find_on_stack,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def _state_dict(path: Path, top: Any) -> dict[str, _Tensor]:
    """The tensors of the state dict that the pickle holds, or that is one level down in it."""
    if isinstance(top, dict):
        for candidate in (top, top.get("state_dict"), top.get("model")):
            values = candidate.items() if isinstance(candidate, dict) else ()
            if tensors := {name: value for name, value in values if isinstance(value, _Tensor)}:
                return tensors
    raise BadCheckpoint(f"{path}: holds no state dict: no tensors by name; {RESAVE}")


def _check_tensor(
    path: Path, name: str, tensor: _Tensor, storages: Mapping[str, StoredRange]
) -> tuple[SourceTensor, _View]:
    """The tensor, once it is certain that all of it lies in its storage's entry."""

    def fail(what: str) -> BadCheckpoint:
        return BadCheckpoint(f"{path}: {_shown(name)}: {what}; {FETCH}")

    if not name.isprintable() or not isinstance(tensor.storage, _Storage):
        raise fail("is no tensor with a printable name")
    storage, (offset, shape, strides) = tensor.storage, _geometry(tensor, fail)
    dtype, itemsize = STORAGES[storage.type_name]
    entry = storages.get(storage.key)
    if entry is None or entry.size_bytes // itemsize != storage.numel:
        found = "it is missing" if entry is None else f"it has {entry.size_bytes} bytes"
        key = _shown(storage.key)
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
    tensor: _Tensor, fail: Callable[[str], BadCheckpoint]
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
        found = _shown(f"{list(shape)}, strides {list(strides)}, offset {offset}")
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


def _shown(text: str) -> str:
    """A name out of the file, fit for a one-line message."""
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return text if text.isprintable() else ascii(text)
