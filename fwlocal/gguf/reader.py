"""A GGUF file's header, read in plain Python before native code sees the file.

llama.cpp aborts the whole process on some damaged files, so every count, length and offset is
checked here against the file's size first. Nothing is allocated on a file's word, the tensor data
is never read, and neither numpy nor llama_cpp is imported.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3,
little-endian); the limits are those of llama.cpp's ``gguf.cpp``.
"""

from __future__ import annotations

import mmap
import struct
import sys
from pathlib import Path

from fwlocal.errors import BadModelFile
from fwlocal.gguf.header import (
    DEFAULT_ALIGNMENT,
    GGML_TYPES,
    SCALARS,
    U64,
    GGUFArray,
    GGUFHeader,
    TensorInfo,
    Value,
)

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMS = 4
MAX_NAME_BYTES = 63  # ggml's GGML_MAX_NAME less the NUL
MAX_KEY_BYTES = 65535
MAX_ELEMENTS = 8_000_000  # of all arrays together; a vocabulary with its merges has a million
INT64_MAX = 2**63 - 1

_STRING, _ARRAY = 8, 9
_U32 = SCALARS[4][1]


class MoreNeeded(Exception):
    """The header goes on after the bytes that are there: up to ``end`` at least."""

    def __init__(self, end: int) -> None:
        super().__init__(f"{end} bytes of the file are needed")
        self.end = end


def read_header(path: Path) -> GGUFHeader:
    """Read and check the header of the GGUF file at ``path``.

    Raises BadModelFile, naming what is wrong, for anything that is no sound GGUF of version 2 or 3
    with the machine's byte order, whole up to its last tensor.
    """
    if path.is_dir():
        raise BadModelFile(f"{path}: is a folder; name the .gguf file in it")
    if path.exists() and not path.is_file():
        raise BadModelFile(f"{path}: is no regular file; name a .gguf")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < 24:
                raise BadModelFile(f"{path}: no GGUF file: only {size} bytes long")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
                return _HeaderReader(path, buffer, size).read()
    except OSError as error:
        raise BadModelFile(f"{path}: cannot be read: {error.strerror or error}") from error


def header_of(path: Path, beginning: bytes, size_bytes: int) -> GGUFHeader:
    """The header of a file of ``size_bytes`` that begins with ``beginning``, as ``path`` would be
    read if all of it were there.

    Raises MoreNeeded where the header goes on after ``beginning``, else as ``read_header``.
    """
    if size_bytes < 24:
        raise BadModelFile(f"{path}: no GGUF file: only {size_bytes} bytes long")
    return _HeaderReader(path, beginning, size_bytes).read()


class _HeaderReader:
    """A cursor over a file, or its beginning, that never believes a length."""

    def __init__(self, path: Path, buffer: bytes | mmap.mmap, size: int) -> None:
        self.path = path
        self.buffer = buffer
        self.size = size
        self.position = 0
        self.elements = 0

    def fail(self, what: str) -> BadModelFile:
        return BadModelFile(f"{self.path}: damaged GGUF: {what}; fetch or convert the file again")

    def reach(self, end: int) -> None:
        """Raise MoreNeeded unless the bytes before ``end``, which the file has, are there."""
        if end > len(self.buffer):
            raise MoreNeeded(end)

    def number(self, scalar: struct.Struct, what: str) -> int:
        end = self.position + scalar.size
        if end > self.size:
            raise self.fail(f"the file ends inside {what}")
        self.reach(end)
        (value,) = scalar.unpack_from(self.buffer, self.position)
        self.position += scalar.size
        return value  # type: ignore[no-any-return]

    def string(self, limit: int, what: str) -> str:
        length = self.number(U64, what)
        if length > limit or length > self.size - self.position:
            raise self.fail(f"{what} claims {length} bytes")
        self.reach(self.position + length)
        self.position += length
        try:
            return self.buffer[self.position - length : self.position].decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8") from None

    def read(self) -> GGUFHeader:
        version = self.read_preamble()
        n_tensors = self.number(U64, "the tensor count")
        n_kv = self.number(U64, "the key count")
        # The least that a tensor info and a key/value pair can take bounds both counts.
        if n_tensors > self.size // 33 or n_kv > self.size // 13:
            raise self.fail(f"it claims {n_tensors} tensors and {n_kv} keys")
        metadata = self.read_metadata(n_kv)
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise self.fail(f"general.alignment is {alignment!r}, no power of two")
        tensors = self.read_tensors(n_tensors, alignment)
        data_offset = _pad(self.position, alignment) if tensors else self.position
        end = data_offset + (tensors[-1].offset + tensors[-1].size_bytes if tensors else 0)
        if end > self.size:
            raise BadModelFile(
                f"{self.path}: truncated: {end} bytes expected, {self.size} on disk; "
                "fetch or copy the file again"
            )
        return GGUFHeader(self.path, version, metadata, tensors, data_offset, self.size)

    def read_preamble(self) -> int:
        self.reach(4)
        magic = self.buffer[:4]
        if magic == b"vers":
            raise BadModelFile(
                f"{self.path}: only a Git-LFS pointer, not the model; fetch it with `git lfs pull` "
                "or `fwlocal pull`"
            )
        if magic != MAGIC:
            raise BadModelFile(
                f"{self.path}: no GGUF file (it starts with {magic!r}); name a .gguf"
            )
        self.position = 4
        version = self.number(_U32, "the version")
        if version & 0xFFFF == 0:
            raise BadModelFile(
                f"{self.path}: a GGUF of the other byte order (this machine is "
                f"{sys.byteorder}-endian); convert it again on this machine"
            )
        if version not in VERSIONS:
            raise BadModelFile(
                f"{self.path}: GGUF version {version}; this program reads versions 2 and 3"
            )
        return version

    def read_metadata(self, n_kv: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for index in range(n_kv):
            key = self.string(MAX_KEY_BYTES, f"key {index}")
            if not key or key in metadata:
                raise self.fail(f"key {index} ({key!r}) is empty or a duplicate")
            metadata[key] = self.read_value(key)
        return metadata

    def read_value(self, key: str) -> Value:
        type_id = self.number(_U32, key)
        if type_id == _STRING:
            return self.string(self.size, key)
        if type_id == _ARRAY:
            return self.read_array(key)
        if type_id not in SCALARS:
            raise self.fail(f"{key} has the unknown value type {type_id}")
        return self.number(SCALARS[type_id][1], key)

    def read_array(self, key: str) -> GGUFArray:
        type_id = self.number(_U32, key)
        count = self.number(U64, key)
        start = self.position
        self.elements += count
        if self.elements > MAX_ELEMENTS:
            raise self.fail(f"{key} claims {count} elements")
        if type_id == _STRING:
            self.position = self.skip_strings(count, key)
            return GGUFArray("string", count, self.buffer[start : self.position])
        if type_id not in SCALARS:
            raise self.fail(f"{key} is an array of the unknown type {type_id}")
        name, scalar = SCALARS[type_id]
        if count > (self.size - start) // scalar.size:
            raise self.fail(f"{key} claims {count} elements")
        self.reach(start + count * scalar.size)
        self.position += count * scalar.size
        return GGUFArray(name, count, self.buffer[start : self.position])

    def skip_strings(self, count: int, key: str) -> int:
        """The position after ``count`` strings; a tight loop, since vocabularies are long."""
        unpack, buffer, position = U64.unpack_from, self.buffer, self.position
        try:
            for _ in range(count):
                position += 8 + unpack(buffer, position)[0]
        except (struct.error, OverflowError):
            position += 8  # the next length lies after the buffer
        if position > self.size:
            raise self.fail(f"a string in {key} runs past the end of the file")
        self.reach(position)
        return position

    def read_tensors(self, n_tensors: int, alignment: int) -> tuple[TensorInfo, ...]:
        tensors: list[TensorInfo] = []
        names: set[str] = set()
        expected = 0
        for index in range(n_tensors):
            tensor = self.read_tensor(index)
            if tensor.name in names:
                raise self.fail(f"two tensors are called {tensor.name}")
            if tensor.offset != expected:
                raise self.fail(f"{tensor.name} lies at {tensor.offset}, not at {expected}")
            names.add(tensor.name)
            tensors.append(tensor)
            expected = _pad(tensor.offset + tensor.size_bytes, alignment)
        return tuple(tensors)

    def read_tensor(self, index: int) -> TensorInfo:
        name = self.string(MAX_NAME_BYTES, f"the name of tensor {index}")
        n_dims = self.number(_U32, name)
        if not 1 <= n_dims <= MAX_DIMS:
            raise self.fail(f"{name} has {n_dims} dimensions")
        shape = tuple(self.number(U64, name) for _ in range(n_dims))
        elements = 1
        for size in shape:
            elements *= size
        type_id = self.number(_U32, name)
        if type_id not in GGML_TYPES:
            raise self.fail(f"{name} has the unknown type {type_id}")
        type_name, block, block_bytes = GGML_TYPES[type_id]
        if not 0 < elements <= INT64_MAX // block_bytes or shape[0] % block:
            raise self.fail(f"{name} has the impossible shape {list(shape)} for {type_name}")
        offset = self.number(U64, name)
        return TensorInfo(name, shape, type_name, offset, elements // block * block_bytes)


def _pad(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment
