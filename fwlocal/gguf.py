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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import BadModelFile

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_NAME_BYTES = 63  # ggml's GGML_MAX_NAME less the NUL
MAX_KEY_BYTES = 65535
MAX_ELEMENTS = 8_000_000  # of all arrays together; a vocabulary with its merges has a million
INT64_MAX = 2**63 - 1

_SCALARS = {
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
_STRING, _ARRAY = 8, 9
_U32, _U64 = _SCALARS[4][1], _SCALARS[10][1]

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
        code = {name: scalar.format for name, scalar in _SCALARS.values()}[self.element_type]
        return iter(struct.unpack(f"<{self.count}{code[1:]}", self.data))

    def _strings(self) -> Iterator[str]:
        position = 0
        for _ in range(self.count):
            (length,) = _U64.unpack_from(self.data, position)
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


class _HeaderReader:
    """A cursor over the mapped file that never believes a length."""

    def __init__(self, path: Path, buffer: mmap.mmap, size: int) -> None:
        self.path = path
        self.buffer = buffer
        self.size = size
        self.position = 0
        self.elements = 0

    def fail(self, what: str) -> BadModelFile:
        return BadModelFile(f"{self.path}: damaged GGUF: {what}; fetch or convert the file again")

    def number(self, scalar: struct.Struct, what: str) -> int:
        if self.position + scalar.size > self.size:
            raise self.fail(f"the file ends inside {what}")
        (value,) = scalar.unpack_from(self.buffer, self.position)
        self.position += scalar.size
        return value  # type: ignore[no-any-return]

    def string(self, limit: int, what: str) -> str:
        length = self.number(_U64, what)
        if length > limit or length > self.size - self.position:
            raise self.fail(f"{what} claims {length} bytes")
        self.position += length
        try:
            return self.buffer[self.position - length : self.position].decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8") from None

    def read(self) -> GGUFHeader:
        version = self.read_preamble()
        n_tensors = self.number(_U64, "the tensor count")
        n_kv = self.number(_U64, "the key count")
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
        if type_id not in _SCALARS:
            raise self.fail(f"{key} has the unknown value type {type_id}")
        return self.number(_SCALARS[type_id][1], key)

    def read_array(self, key: str) -> GGUFArray:
        type_id = self.number(_U32, key)
        count = self.number(_U64, key)
        start = self.position
        self.elements += count
        if self.elements > MAX_ELEMENTS:
            raise self.fail(f"{key} claims {count} elements")
        if type_id == _STRING:
            self.position = self.skip_strings(count, key)
            return GGUFArray("string", count, self.buffer[start : self.position])
        if type_id not in _SCALARS:
            raise self.fail(f"{key} is an array of the unknown type {type_id}")
        name, scalar = _SCALARS[type_id]
        if count > (self.size - start) // scalar.size:
            raise self.fail(f"{key} claims {count} elements")
        self.position += count * scalar.size
        return GGUFArray(name, count, self.buffer[start : self.position])

    def skip_strings(self, count: int, key: str) -> int:
        """The position after ``count`` strings; a tight loop, since vocabularies are long."""
        unpack, buffer, position = _U64.unpack_from, self.buffer, self.position
        try:
            for _ in range(count):
                position += 8 + unpack(buffer, position)[0]
        except (struct.error, OverflowError):
            position = self.size + 1
        if position > self.size:
            raise self.fail(f"a string in {key} runs past the end of the file")
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
        shape = tuple(self.number(_U64, name) for _ in range(n_dims))
        elements = 1
        for size in shape:
            elements *= size
        type_id = self.number(_U32, name)
        if type_id not in GGML_TYPES:
            raise self.fail(f"{name} has the unknown type {type_id}")
        type_name, block, block_bytes = GGML_TYPES[type_id]
        if not 0 < elements <= INT64_MAX // block_bytes or shape[0] % block:
            raise self.fail(f"{name} has the impossible shape {list(shape)} for {type_name}")
        offset = self.number(_U64, name)
        return TensorInfo(name, shape, type_name, offset, elements // block * block_bytes)


def _pad(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment
