"""Whether a GGUF file is whole: its structure, its tensors' SHA-256, and finite scales.

The converter stores each tensor's hash in the file's own header, so that a file can be checked
anywhere, years later, with nothing beside it. A file without hashes is checked for the rest. The
data is read once, in order, a slice at a time; what the numbers mean is not looked at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from convert.scales import first_not_finite
from convert.sources.tensors import BLOCKS, TENSOR_HASHES, TENSOR_TABLE, table_digest
from fwlocal.errors import BadModelFile
from fwlocal.gguf import GGUFArray, GGUFHeader, TensorInfo, read_header
from fwlocal.splits import parts_of

SLICE_BYTES = 8 << 20
REMEDY = "fetch or convert the file again"

_HEX = re.compile(r"[0-9a-fA-F]{64}")

OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class Damage:
    """What is wrong with one tensor, in words."""

    tensor: str
    what: str


@dataclass(frozen=True)
class Verdict:
    """What was found in a file, or in all files of a split one: ``n_hashed`` of ``n_tensors``
    had a hash to be held against; the file is good when nothing is ``damaged``. Hashes that a tool
    copied from another file (``has_foreign_hashes``) are not used."""

    n_tensors: int
    n_hashed: int
    damaged: tuple[Damage, ...]
    has_foreign_hashes: bool = False


def verify(path: Path, on_progress: OnProgress = lambda fraction: None) -> Verdict:
    """Check the GGUF file at ``path``; of a split one (NAME-00001-of-0000N.gguf), all its files.

    ``on_progress`` is told the fraction done, up to 1. Memory: a slice of 8 MiB.
    Raises BadModelFile for a damaged structure, a missing part of a split file, and hashes that
    are none; damaged tensors are told in the verdict.
    """
    headers = [_read_part(part, number, count) for part, number, count in _parts(path)]
    hashes = [_hashes(header) for header in headers]
    progress = _Progress(sum(header.weights_bytes for header in headers), on_progress)
    damaged: list[Damage] = []
    for header, expected in zip(headers, hashes, strict=True):
        damaged.extend(_damages(header, expected, progress))
    on_progress(1.0)
    return Verdict(
        n_tensors=sum(len(header.tensors) for header in headers),
        n_hashed=sum(map(len, hashes)),
        damaged=tuple(damaged),
        has_foreign_hashes=any(map(_has_foreign_hashes, headers)),
    )


def _parts(path: Path) -> list[tuple[Path, int, int]]:
    """The files to check, each with its number, from 0, and how many there are."""
    parts = parts_of(path)
    for part in parts if len(parts) > 1 else ():
        if not part.is_file():
            raise BadModelFile(
                f"{part}: missing: one of {len(parts)} parts; fetch it beside the others"
            )
    return [(part, number, len(parts)) for number, part in enumerate(parts)]


def _read_part(path: Path, number: int, count: int) -> GGUFHeader:
    """The header of one part, which must not say that it is another one."""
    header = read_header(path)
    for key, expected in (("split.no", number), ("split.count", count)):
        found = header.number(key)
        if count > 1 and found not in (expected, None):
            raise BadModelFile(f"{path}: {key} is {found}, not {expected} as it is named; {REMEDY}")
    return header


def _has_foreign_hashes(header: GGUFHeader) -> bool:
    """Whether the hashes are of other tensors than the file's own."""
    recorded = header.text(TENSOR_TABLE)
    table = table_digest((t.name, t.type_name, t.shape) for t in header.tensors)
    return recorded is not None and recorded != table


def _hashes(header: GGUFHeader) -> tuple[str, ...]:
    """The SHA-256 of each tensor, in lower case; () when the file has none."""
    value = header.metadata.get(TENSOR_HASHES)
    if value is None or _has_foreign_hashes(header):
        return ()
    problem = f"{header.path}: damaged GGUF: {TENSOR_HASHES}"
    if not isinstance(value, GGUFArray) or value.element_type != "string":
        raise BadModelFile(f"{problem} is no array of strings; {REMEDY}")
    if len(value) != len(header.tensors):
        raise BadModelFile(
            f"{problem} has {len(value)} entries for {len(header.tensors)} tensors; {REMEDY}"
        )
    hashes = tuple(str(entry).lower() for entry in value)
    for index, entry in enumerate(hashes):
        if not _HEX.fullmatch(entry):
            raise BadModelFile(f"{problem} has no 64 hex digits at {index}; {REMEDY}")
    return hashes


class _Progress:
    """Bytes read so far, told on as a fraction of all."""

    def __init__(self, total_bytes: int, on_progress: OnProgress) -> None:
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self.on_progress = on_progress

    def add(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        self.on_progress(self.done_bytes / self.total_bytes)


def _damages(header: GGUFHeader, hashes: tuple[str, ...], progress: _Progress) -> Iterator[Damage]:
    """What is wrong with the tensors of one file."""
    memory = memoryview(bytearray(SLICE_BYTES))
    try:
        with header.path.open("rb", buffering=0) as file:
            for index, tensor in enumerate(header.tensors):
                file.seek(header.data_offset + tensor.offset)
                found, bad = _read_tensor(file, header, tensor, memory, progress)
                if hashes and found != hashes[index]:
                    yield Damage(tensor.name, "its SHA-256 differs")
                if bad is not None:
                    yield Damage(tensor.name, _not_finite(tensor, bad))
    except OSError as error:
        raise BadModelFile(f"{header.path}: cannot be read: {error.strerror or error}") from error


def _not_finite(tensor: TensorInfo, index: int) -> str:
    if BLOCKS[tensor.type_name][0] == 1:  # not quantized: a block is one number
        return f"element {index} is not finite"
    return f"block {index} has a scale that is not finite"


def _read_tensor(
    file: FileIO, header: GGUFHeader, tensor: TensorInfo, memory: memoryview, progress: _Progress
) -> tuple[str, int | None]:
    """The SHA-256 of the tensor's bytes from the file's position on, and its first block that is
    not finite, if any."""
    block_bytes = BLOCKS[tensor.type_name][1]
    slice_bytes = len(memory) // block_bytes * block_bytes
    sha256, bad = hashlib.sha256(), None
    for start in range(0, tensor.size_bytes, slice_bytes):
        data = memory[: min(slice_bytes, tensor.size_bytes - start)]
        _fill(file, data, header, tensor)
        sha256.update(data)
        if bad is None:
            index = first_not_finite(tensor.type_name, np.frombuffer(data, np.uint8))
            bad = None if index is None else start // block_bytes + index
        progress.add(len(data))
    return sha256.hexdigest(), bad


def _fill(file: FileIO, data: memoryview, header: GGUFHeader, tensor: TensorInfo) -> None:
    while data:
        count = file.readinto(data)
        if not count:
            raise BadModelFile(f"{header.path}: truncated inside {tensor.name}; {REMEDY}")
        data = data[count:]
