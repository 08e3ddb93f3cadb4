"""A source's files, read whole: their SHA-256, and the checksums that a zip file carries. What is
remote is checked as it comes (``convert.sources.remote``), and its hash is known.

Runs in a thread, a little ahead of the conversion, which thereby finds what it reads in the cache.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from convert.sources.source_file import SourceFile, WrongBytes
from convert.sources.tensors import StoredRange
from fwlocal.errors import BadCheckpoint

_BLOCK = 4 << 20
_AHEAD = 2 << 30  # bytes


class Integrity:
    """Hashes ``files`` in their order, no further ahead than _AHEAD of what ``advance`` tells.
    ``result`` waits for them; ``check`` does not."""

    def __init__(
        self, files: Sequence[SourceFile], checksums: Mapping[Path, Sequence[StoredRange]]
    ) -> None:
        self._hashes: list[str] = []
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._moved = threading.Condition()
        self.hashed_bytes, self._limit = 0, float(_AHEAD)
        self._thread = threading.Thread(
            target=self._run, args=(tuple(files), dict(checksums)), daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise BadCheckpoint if damage was found by now."""
        if self._failure is not None:
            raise self._failure

    def advance(self, done_bytes: float) -> None:
        """The conversion has read so much of the source."""
        with self._moved:
            self._limit = done_bytes + _AHEAD
            self._moved.notify()

    def result(self) -> tuple[str, ...]:
        """The SHA-256 of each file. Raises BadCheckpoint naming a damaged entry, WrongBytes for a
        file that is not what it is known to be."""
        self.advance(math.inf)
        while self._thread.is_alive():
            self._thread.join(0.2)  # so that Ctrl-C is heard
        self.check()
        return tuple(self._hashes)

    def stop(self) -> None:
        """End it soon; the result is not wanted."""
        self._stop.set()
        self.advance(math.inf)
        self._thread.join()

    def _run(
        self, files: tuple[SourceFile, ...], checksums: Mapping[Path, Sequence[StoredRange]]
    ) -> None:
        file = files[0]
        try:
            for file in files:
                self._hashes.append(self._of(file, checksums))
        except OSError as error:
            reason = error.strerror or error
            self._failure = BadCheckpoint(f"{file.path}: cannot be read: {reason}")
        except BaseException as error:
            self._failure = error

    def _of(self, file: SourceFile, checksums: Mapping[Path, Sequence[StoredRange]]) -> str:
        if file.sha256 is None:
            return self._confirmed(file, self._hash(file.path, checksums.get(file.path, ())))
        with self._moved:
            self.hashed_bytes += file.size_bytes  # it has its place in the source's order
        return file.sha256

    def _confirmed(self, file: SourceFile, found: str) -> str:
        expected = file.expected_sha256
        if expected is None or expected == found or self._stop.is_set():  # then part of it was read
            return found
        raise WrongBytes(
            f"{file.path}: is damaged (sha256 {found[:12]}…, not {expected[:12]}…); remove "
            f"{os.path.realpath(file.path)}, and the same command with the repository's name "
            "(owner/name) fetches it again"
        )

    def _hash(self, path: Path, ranges: Sequence[StoredRange]) -> str:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            for stored in sorted(ranges, key=lambda r: r.offset):
                self._read(file, stored.offset - file.tell(), digest)
                crc = self._read(file, stored.size_bytes, digest)
                if crc != stored.crc32 and not self._stop.is_set():
                    raise BadCheckpoint(
                        f"{path}: {stored.name} is damaged (its CRC-32 is {crc:08x}, not "
                        f"{stored.crc32:08x}); fetch the file again"
                    )
            self._read(file, path.stat().st_size - file.tell(), digest)
        return digest.hexdigest()

    def _read(self, file: IO[bytes], count: int, digest: hashlib._Hash) -> int:
        """Hash ``count`` bytes more; their CRC-32."""
        crc = 0
        while count and not self._stop.is_set() and (block := file.read(min(count, _BLOCK))):
            with self._moved:
                self._moved.wait_for(lambda: self.hashed_bytes <= self._limit)
                self.hashed_bytes += len(block)
            digest.update(block)
            crc = zlib.crc32(block, crc)
            count -= len(block)
        return crc
