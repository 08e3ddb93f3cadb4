"""A safetensors file as a source of tensors.

The header is checked here, as the format demands, rather than by the safetensors library: that one
says neither which tensor is wrong nor what to do, needs torch for bfloat16, and maps the file.

The format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any

from convert.sources.json_file import parse_json
from convert.sources.source_file import SourceFile
from convert.sources.tensors import SourceTensor
from convert.sources.weight_file import PlainSource
from fwlocal.errors import BadCheckpoint

MAX_HEADER_BYTES = 100_000_000
MAX_DIMS = 64  # torch's own
# safetensors' dtype -> (its name here, bytes); those that no Llama is made of are refused on use.
DTYPES = {
    "F64": ("F64", 8),
    "F32": ("F32", 4),
    "F16": ("F16", 2),
    "BF16": ("BF16", 2),
    "I64": ("I64", 8),
    "I32": ("I32", 4),
    "I16": ("I16", 2),
    "I8": ("I8", 1),
    "U8": ("U8", 1),
    "BOOL": ("BOOL", 1),
    "F8_E4M3": ("F8_E4M3", 1),
    "F8_E5M2": ("F8_E5M2", 1),
}


class SafetensorsFile(PlainSource):
    """One open file."""

    def __init__(self, file: SourceFile) -> None:
        """Takes ``file`` over. Raises BadCheckpoint, naming file and tensor, for a header that the
        format forbids."""
        try:
            super().__init__(file, _read_header(file))
        except BaseException:
            file.close()
            raise


def _read_header(file: SourceFile) -> dict[str, SourceTensor]:
    path, size = file.path, file.size_bytes
    if size < 8:
        raise BadCheckpoint(
            f"{path}: no safetensors file: only {size} bytes long; fetch or copy it again"
        )
    length = int.from_bytes(file.read(0, 8, "the header's length").tobytes(), "little")
    if length > MAX_HEADER_BYTES:
        raise BadCheckpoint(
            f"{path}: no safetensors file: its header claims {length} bytes, over 100 MB; "
            "fetch or copy it again"
        )
    if 8 + length > size:
        raise BadCheckpoint(
            f"{path}: truncated: a header of {length} bytes expected, the file has {size}; fetch "
            "or copy it again"
        )
    header = parse_json(file.read(8, length, "the header").tobytes(), f"{path}: header")
    if not isinstance(header, dict):
        raise BadCheckpoint(f"{path}: its header is no JSON object; fetch or copy the file again")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, entry, 8 + length) for name, entry in header.items()}
    _check_layout(path, list(tensors.values()), 8 + length, size)
    return tensors


def _tensor(path: Path, name: str, entry: Any, data_offset: int) -> SourceTensor:
    def wrong(what: str) -> BadCheckpoint:
        shown = name if name.isprintable() else ascii(name)
        return BadCheckpoint(f"{path}: {shown}: {what}; fetch or copy the file again")

    if not name.isprintable():
        raise wrong("its name is not printable")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise wrong("its entry must hold dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise wrong(
            f"shape {reprlib.repr(shape)} or data_offsets {reprlib.repr(offsets)} are no lists of "
            "sizes"
        )
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        raise wrong(f"unknown dtype {reprlib.repr(entry['dtype'])}")
    dtype, item_bytes = DTYPES[entry["dtype"]]
    begin, end = offsets
    expected = math.prod(shape) * item_bytes
    if end - begin != expected:
        raise wrong(
            f"shape {shape} in {dtype} needs {expected} bytes, its offsets give {end - begin}"
        )
    return SourceTensor(name, dtype, tuple(shape) or (1,), path, data_offset + begin)


def _naturals(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > MAX_DIMS:
        return False
    return all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_layout(path: Path, tensors: list[SourceTensor], start: int, size: int) -> None:
    """The data must be one unbroken run from the header to the file's end."""
    expected = start
    for tensor in sorted(tensors, key=lambda t: (t.offset, _end(t))):
        if tensor.offset != expected:
            relation = "overlaps the one before" if tensor.offset < expected else "leaves a gap"
            raise BadCheckpoint(
                f"{path}: {tensor.name} {relation}: it starts at byte {tensor.offset}, not "
                f"{expected}; fetch or copy the file again"
            )
        expected = _end(tensor)
    if expected != size:
        relation = "truncated" if expected > size else "longer than its header says"
        raise BadCheckpoint(
            f"{path}: {relation}: {expected} bytes expected, {size} on disk; fetch or copy it again"
        )


def _end(tensor: SourceTensor) -> int:
    item_bytes = next(size for name, size in DTYPES.values() if name == tensor.dtype)
    return tensor.offset + math.prod(tensor.shape) * item_bytes
