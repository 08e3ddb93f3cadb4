"""Torch's zip checkpoints written without torch, opcode by opcode.

    save(path, {"weight": matrix, "norm": bf16(bits), "head": View(storage, (3, 4), (1, 3))})

An array given twice is one shared storage. The small functions below it make any other pickle.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclass(frozen=True, eq=False)
class View:
    """A tensor over the elements of ``storage``; ``strides`` and ``offset`` count elements.

    ``numel`` and ``key`` tell a lie about the storage; ``bf16`` says that its uint16 are bfloat16.
    """

    storage: Array
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    bf16: bool = False
    numel: int | None = None
    key: str | None = None


def bf16(bits: Array) -> View:
    """A whole tensor of bfloat16, given as uint16."""
    return View(bits, bits.shape, _strides(bits.shape), bf16=True)


def save(
    path: Path,
    tensors: Mapping[str, Array | View],
    *,
    folder: str = "archive",
    wrapped_in: str | None = None,
) -> None:
    """Write ``tensors`` as torch.save would, under ``wrapped_in`` in an outer dict if given."""
    storages: dict[int, tuple[str, Array]] = {}
    items = []
    for name, tensor in tensors.items():
        view = tensor if isinstance(tensor, View) else _whole(tensor)
        key, _ = storages.setdefault(id(view.storage), (str(len(storages)), view.storage))
        items.append((text(name), tensor_of(view, key)))
    top = ordered_dict(items) + build(ordered_dict([(text("_metadata"), ordered_dict([]))]))
    if wrapped_in:
        top = plain_dict([(text("epoch"), number(3)), (text(wrapped_in), top)])
    entries = {"data.pkl": pickle(top), "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{key}": storage.tobytes() for key, storage in storages.values()}
    write_zip(path, entries, folder=folder)


def write_zip(path: Path, entries: Mapping[str, bytes], *, folder: str = "archive") -> None:
    """A zip of stored entries, in the order given."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"{folder}/{name}", data)


def pickle(top: bytes) -> bytes:
    """A pickle of protocol 2 whose opcodes ``top`` leave one object."""
    return b"\x80\x02" + top + b"."


def text(value: str) -> bytes:
    """BINUNICODE"""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """LONG1"""
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def tuple_of(*items: bytes) -> bytes:
    """MARK, the items, TUPLE"""
    return b"(" + b"".join(items) + b"t"


def global_name(module: str, name: str) -> bytes:
    """GLOBAL"""
    return f"c{module}\n{name}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    """REDUCE"""
    return function + tuple_of(*arguments) + b"R"


def plain_dict(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """EMPTY_DICT, then SETITEMS"""
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def ordered_dict(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """OrderedDict(), then SETITEMS"""
    empty = call(global_name("collections", "OrderedDict"))
    return empty + b"(" + b"".join(key + value for key, value in items) + b"u"


def build(state: bytes) -> bytes:
    """BUILD, for the object before it"""
    return state + b"b"


def storage_of(view: View, key: str) -> bytes:
    """The persistent id of a storage, then BINPERSID"""
    kind = "BFloat16Storage" if view.bf16 else STORAGES[view.storage.dtype.name]
    numel = view.storage.size if view.numel is None else view.numel
    named = global_name("torch", kind)
    key = key if view.key is None else view.key
    return tuple_of(text("storage"), named, text(key), text("cpu"), number(numel)) + b"Q"


def tensor_of(view: View, key: str) -> bytes:
    """A call of _rebuild_tensor_v2 on the storage called ``key``"""
    return call(
        global_name("torch._utils", "_rebuild_tensor_v2"),
        storage_of(view, key),
        number(view.offset),
        tuple_of(*map(number, view.shape)),
        tuple_of(*map(number, view.strides)),
        b"\x89",  # requires_grad: False
        ordered_dict([]),
    )


def _whole(array: Array) -> View:
    return View(array, array.shape, _strides(array.shape))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
