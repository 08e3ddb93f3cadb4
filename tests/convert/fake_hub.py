"""A repository of the Hub in memory, which counts what is fetched and can spoil it.

repository = FakeRepository(write_checkpoint(tmp_path / "whale"), tmp_path / "small")
location = repository.location()
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from convert.sources.checkpoint import Location
from convert.sources.repository import Span, small_files
from fwlocal.errors import NetworkError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeRepository:
    """The files of ``folder`` as a repository; the small ones go to ``here`` when asked for.

    ``wrong_byte`` names a file and a place in it where another byte comes; ``left_bytes`` is how
    much comes before the network is gone.
    """

    def __init__(self, folder: Path, here: Path, repo: str = "owner/whale") -> None:
        self.repo, self.commit, self._folder, self._here = repo, COMMIT, folder, here
        paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
        self.contents = {path.name: path.read_bytes() for path in paths}
        self.sizes: Mapping[str, int] = {name: len(data) for name, data in self.contents.items()}
        self.names_hashes = True
        self.requests: list[tuple[str, int, int]] = []
        self.fetched_bytes = 0
        self.wrong_byte: tuple[str, int] | None = None
        self.left_bytes = math.inf
        self.streams: list[FakeStream] = []

    def location(self) -> Location:
        """It as a source."""
        return Location(self.fetch_small(), None, self.repo, self.commit, self)

    def open(self, name: str) -> FakeFile:
        """One of the files."""
        return FakeFile(self, name)

    def stream(self, spans: Sequence[Span], window_bytes: int) -> FakeStream:
        """The bytes of ``spans``."""
        self.streams.append(FakeStream(self, spans, window_bytes))
        return self.streams[-1]

    def fetch_small(self) -> Path:
        """The files that hold no weights."""
        self._here.mkdir(parents=True, exist_ok=True)
        for name in small_files(self.sizes):
            shutil.copy(self._folder / name, self._here)
        return self._here

    def fetch(self, name: str, offset: int, count: int) -> bytes:
        """Bytes, counted, perhaps wrong. Raises NetworkError when the network is gone."""
        self.left_bytes -= count
        if self.left_bytes < 0:
            raise NetworkError(f"{self.repo}: the connection broke")
        self.fetched_bytes += count
        data = bytearray(self.contents[name][offset : offset + count])
        assert len(data) == count
        if self.wrong_byte and self.wrong_byte[0] == name:
            place = self.wrong_byte[1] - offset
            if 0 <= place < count:
                data[place] ^= 1
        return bytes(data)


class FakeFile:
    """One file; see ``convert.sources.repository.RemoteFile``."""

    def __init__(self, repository: FakeRepository, name: str) -> None:
        self._repository = repository
        self.repo, self.name, self.size_bytes = repository.repo, name, repository.sizes[name]
        digest = hashlib.sha256(repository.contents[name]).hexdigest()
        self.sha256 = digest if repository.names_hashes else None
        self.identity = (self.repo, name, str(self.size_bytes), digest)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Exact bytes."""
        self._repository.requests.append((self.name, offset, len(view)))
        view[:] = self._repository.fetch(self.name, offset, len(view))


class FakeStream:
    """Bytes of spans, fetched as early as is allowed: at once."""

    def __init__(self, repository: FakeRepository, spans: Sequence[Span], window: int) -> None:
        self.spans = list(spans)
        self._repository, self._window = repository, window
        self._ahead = bytearray()
        self._todo = [(file.name, begin, end) for file, begin, end in spans]
        self.position = self.fetched = self.allowed = 0
        self.is_closed = False

    def allow(self, position: int) -> None:
        """Fetch up to there."""
        self.allowed = max(position, self._window, self.allowed)
        self._fetch(min(self.allowed, self.position + self._window))

    def read_into(self, view: memoryview) -> None:
        """The next bytes."""
        assert not self.is_closed
        self._fetch(self.position + len(view))
        view[:] = self._ahead[: len(view)]
        del self._ahead[: len(view)]
        self.position += len(view)
        self._fetch(min(self.allowed, self.position + self._window))

    def close(self) -> None:
        """No more."""
        self.is_closed = True

    def _fetch(self, end: int) -> None:
        while self.fetched < end and self._todo:
            name, begin, stop = self._todo.pop(0)
            count = min(stop - begin, end - self.fetched)
            self._ahead += self._repository.fetch(name, begin, count)
            self.fetched += count
            if begin + count < stop:
                self._todo.insert(0, (name, begin + count, stop))
