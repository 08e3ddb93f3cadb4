"""The zip around a torch checkpoint: entries stored as they are, in one folder, disjoint."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

from convert.sources.tensors import StoredRange
from convert.sources.torch_pickle import FETCH, RESAVE, shown
from fwlocal.errors import BadCheckpoint

MAX_SMALL_BYTES = 16 << 20  # of the pickle, and of the zip's directory; 60,000 tensors


class _BoundedReader(io.BufferedReader):
    """A file that gives no huge pieces, since zipfile believes the size of a zip's directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_SMALL_BYTES:
            raise zipfile.BadZipFile(f"it claims a directory of {size} bytes")
        return super().read(size)


def read_entries(path: Path) -> dict[str, StoredRange]:
    """All entries by name, in the order of their offsets.

    Raises BadCheckpoint, naming the entry, unless all are stored, inside the file and disjoint.
    """
    with _BoundedReader(io.FileIO(path)) as file:
        return _checked(path, file, _read_directory(path, file))


def _checked(
    path: Path, file: _BoundedReader, infos: list[zipfile.ZipInfo]
) -> dict[str, StoredRange]:
    file_size = file.seek(0, 2)
    entries: dict[str, StoredRange] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = shown(info.filename)
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
    except (zipfile.BadZipFile, RuntimeError, OverflowError, ValueError, struct.error):
        raise BadCheckpoint(
            f"{path}: truncated or no zip: no sound directory at its end; {FETCH}"
        ) from None
