"""Bytes checked as they pass by, in order: a file's SHA-256, the CRC-32 of a zip's entries."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from convert.sources.source_file import WrongBytes
from convert.sources.tensors import StoredRange


class Check(Protocol):
    """What the bytes of one file must be."""

    def update(self, offset: int, data: memoryview) -> None:
        """``data`` are the file's next bytes, from ``offset``. Raises WrongBytes."""


class WholeFile:
    """All bytes of a file."""

    def __init__(self, path: Path, size_bytes: int, sha256: str) -> None:
        self._path, self._size_bytes, self._sha256 = path, size_bytes, sha256
        self._digest = hashlib.sha256()

    def update(self, offset: int, data: memoryview) -> None:
        """The file's next bytes. Raises WrongBytes with the last ones, if they are others."""
        self._digest.update(data)
        if offset + len(data) < self._size_bytes:
            return
        found = self._digest.hexdigest()
        if found != self._sha256:
            raise WrongBytes(
                f"{self._path}: the bytes received are not what the Hub names (sha256 "
                f"{found[:12]}…, not {self._sha256[:12]}…); what was made of them is removed; run "
                "the command again"
            )


class Entries:
    """The entries of a zip that lie between ``begin`` and ``end`` of it."""

    def __init__(self, path: Path, entries: Iterable[StoredRange], begin: int, end: int) -> None:
        inside = (e for e in entries if begin <= e.offset and e.offset + e.size_bytes <= end)
        self._path = path
        self._left = deque(sorted(inside, key=lambda entry: entry.offset))
        self._crc = 0

    def update(self, offset: int, data: memoryview) -> None:
        """The next bytes. Raises WrongBytes naming an entry, once it has passed."""
        while data and self._left:
            entry = self._left[0]
            before = min(max(entry.offset - offset, 0), len(data))
            part = data[before : max(entry.offset + entry.size_bytes - offset, before)]
            self._crc = zlib.crc32(part, self._crc)
            if offset + before + len(part) < entry.offset + entry.size_bytes:
                return
            if self._crc != entry.crc32:
                raise WrongBytes(
                    f"{self._path}: {entry.name} came damaged (its CRC-32 is {self._crc:08x}, not "
                    f"{entry.crc32:08x}); what was made of the file is removed; run the command "
                    "again"
                )
            self._left.popleft()
            self._crc = 0
            offset, data = offset + before + len(part), data[before + len(part) :]
