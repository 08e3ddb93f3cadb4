"""The zip around a torch checkpoint: entries stored as they are, in one folder, disjoint."""

from __future__ import annotations

import struct
import zipfile

from convert.sources.source_file import SourceFile
from convert.sources.tensors import StoredRange
from convert.sources.torch_pickle import FETCH, RESAVE, shown
from fwlocal.errors import BadCheckpoint

MAX_SMALL_BYTES = 16 << 20  # of the pickle, and of the zip's directory; 60,000 tensors
_HEAD_BYTES = 512
_HEADER = struct.Struct("<4s22xHH")  # of an entry: signature, and the lengths of name and extra


class _AsZip:
    """A file as zipfile wants it; it gives no huge pieces, since zipfile believes the size of a
    zip's directory."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._position = 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As ``io.IOBase.seek``."""
        start = {0: 0, 1: self._position, 2: self._file.size_bytes}[whence]
        if start + offset < 0:
            raise OSError("a position before the file")  # what zipfile expects of a short file
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Where it is."""
        return self._position

    def seekable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """``size`` bytes, or all that are left."""
        left = max(self._file.size_bytes - self._position, 0)
        count = left if size < 0 else min(size, left)
        if max(size, count) > MAX_SMALL_BYTES:
            raise zipfile.BadZipFile(f"it claims a directory of {size} bytes")
        data = self._file.read(self._position, count, "the zip's directory").tobytes()
        self._position += count
        return data


def read_entries(file: SourceFile) -> dict[str, StoredRange]:
    """All entries by name, in the order of their offsets.

    Raises BadCheckpoint, naming the entry, unless all are stored, inside the file and disjoint.
    """
    infos = sorted(_read_directory(file), key=lambda info: info.header_offset)
    for info in infos:
        _check_stored(file, info)
    headers = file.read_each([(i.header_offset, _HEADER.size) for i in infos], "a zip header")
    entries: dict[str, StoredRange] = {}
    end = 0
    for info, header in zip(infos, headers, strict=True):
        name = shown(info.filename)
        if info.filename in entries:
            raise BadCheckpoint(f"{file.path}: two entries are called {name}; {FETCH}")
        if info.header_offset < end:
            raise BadCheckpoint(
                f"{file.path}: damaged: {name} at {info.header_offset} overlaps another entry; "
                f"{FETCH}"
            )
        entries[info.filename] = entry = _entry(file, info, header.tobytes())
        end = entry.offset + entry.size_bytes
    return entries


def _check_stored(file: SourceFile, info: zipfile.ZipInfo) -> None:
    name = shown(info.filename)
    if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED:
        kind = "encrypted" if info.flag_bits & 1 else "compressed"
        raise BadCheckpoint(f"{file.path}: {name} is {kind}, torch never does that; {RESAVE}")
    if not 0 <= info.header_offset <= file.size_bytes - _HEADER.size:
        raise BadCheckpoint(
            f"{file.path}: damaged: {name} at {info.header_offset} lies outside the file; {FETCH}"
        )


def _entry(file: SourceFile, info: zipfile.ZipInfo, header: bytes) -> StoredRange:
    """Where the entry's data are: its local header tells how long that is."""
    signature, n_name, n_extra = _HEADER.unpack(header)
    offset = info.header_offset + _HEADER.size + n_name + n_extra
    is_inside = offset + info.file_size <= file.size_bytes
    if signature != b"PK\3\4" or info.compress_size != info.file_size or not is_inside:
        raise BadCheckpoint(
            f"{file.path}: damaged: {shown(info.filename)} has no sound header, or runs past the "
            f"end of the file; {FETCH}"
        )
    return StoredRange(info.filename, offset, info.file_size, info.CRC)


def _read_directory(file: SourceFile) -> list[zipfile.ZipInfo]:
    path = file.path
    head = file.read(0, min(_HEAD_BYTES, file.size_bytes), "its start").tobytes()
    if head[:1] == b"\x80" or head[257:262] == b"ustar":
        raise BadCheckpoint(f"{path}: torch's old format, from before its version 1.6; {RESAVE}")
    if head[:4] != b"PK\3\4":
        raise BadCheckpoint(
            f"{path}: truncated or no zip: it starts with {head[:8]!r}; name a file written by "
            "torch.save"
        )
    try:
        with zipfile.ZipFile(_AsZip(file)) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, RuntimeError, OSError, ValueError, OverflowError, struct.error):
        raise BadCheckpoint(
            f"{path}: truncated or no zip: no sound directory at its end; {FETCH}"
        ) from None
