"""Weights that are read over the network: small pieces when they are asked for, and whole tensors,
once it is known which are wanted, out of a stream that is fetched ahead.

Nothing of it is stored. How bytes come, and come again after a cut, is ``fwlocal.hub``'s.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from convert.sources.passing import Check, Entries, WholeFile
from convert.sources.repository import RemoteFile, Span, Stream
from convert.sources.source_file import Bytes, SourceFile
from convert.sources.spans import GAP_BYTES, Run, plan
from convert.sources.tensors import Extent, StoredRange
from fwlocal.errors import BadCheckpoint

WINDOW_BYTES = 64 << 20
# A stream fetches in pieces, the one that is wanted now always whole: what may be lost is kept
# within the window by leaving room for one of them.
PIECE_BYTES = 8 << 20
HEAD_BYTES, TAIL_BYTES = 32 << 10, 64 << 10  # kept, since headers and directories lie there
NEAR_BYTES = 16 << 10  # small pieces so near to each other come with one request
N_CONNECTIONS = 8
HASHED_LATER = 4  # pieces, in a thread of its own
MAX_UNHASHED_BYTES = 64 << 20

OpenStream = Callable[[Sequence[Span], int], Stream]


class RemoteWeightFile:
    """A file of a repository; see ``convert.sources.source_file.SourceFile``. Threads may read it
    until its tensors are expected."""

    is_remote = True
    expected_sha256: str | None = None  # it is checked as it comes

    def __init__(self, remote: RemoteFile, feed: Feed) -> None:
        """One without a hash of the Hub's is small, and is read at once. Raises NetworkError."""
        self.remote, self._feed = remote, feed
        self.path = Path(remote.repo) / remote.name
        self.size_bytes = remote.size_bytes
        self.fetched_bytes = 0
        self.has_passed = False  # as a whole, since tensors are expected: its SHA-256 was checked
        self.was_read_aside = False  # past the stream, where nothing is checked
        self._counting = threading.Lock()
        self._kept: dict[int, Bytes] = {}
        self.sha256 = remote.sha256
        if self.sha256 is None:
            if self.size_bytes > MAX_UNHASHED_BYTES:
                raise BadCheckpoint(
                    f"{self.path}: the Hub names no SHA-256 of it, and nothing else could tell "
                    "whether the right bytes come; fetch the checkpoint and name its folder"
                )
            self.sha256 = hashlib.sha256(self._keep(0, self.size_bytes).data).hexdigest()

    @property
    def identity(self) -> Sequence[str | int]:
        """Changes when the file does."""
        return self.remote.identity

    @property
    def is_held(self) -> bool:
        """Whether all of it is in memory."""
        return any(data.size == self.size_bytes for data in self._kept.values())

    def read(self, offset: int, count: int, what: str) -> Bytes:
        """``count`` bytes from ``offset``; unless tensors are expected, with what lies around them
        at the file's ends."""
        end = offset + count
        if end <= self.size_bytes and not self._feed.is_open and not self._has_kept(offset, count):
            tail = max(self.size_bytes - TAIL_BYTES, 0)
            if offset >= tail:
                self._keep(tail, self.size_bytes - tail)
            elif end <= HEAD_BYTES:
                self._keep(0, min(HEAD_BYTES, self.size_bytes))
        buffer = np.empty(count, np.uint8)
        self.fill(buffer, offset, what)
        return buffer

    def read_each(self, pieces: Sequence[tuple[int, int]], what: str) -> list[Bytes]:
        """Small pieces, neighbours with one request, several requests at once."""
        groups = list(_near(sorted(set(pieces))))

        def read(group: list[tuple[int, int]]) -> list[Bytes]:
            begin, end = group[0][0], max(offset + count for offset, count in group)
            data = self.read(begin, end - begin, what)
            return [data[offset - begin :][:count] for offset, count in group]

        with ThreadPoolExecutor(N_CONNECTIONS, thread_name_prefix="read") as pool:
            data = itertools.chain(*pool.map(read, groups))
            found = dict(zip(itertools.chain(*groups), data, strict=True))
        return [found[piece] for piece in pieces]

    def fill(self, buffer: Bytes, offset: int, what: str) -> None:
        """Bytes from ``offset``. Raises NetworkError; BadCheckpoint for what is past the end."""
        if offset + buffer.size > self.size_bytes:
            raise BadCheckpoint(
                f"{self.path}: truncated at {what}: {offset + buffer.size} bytes expected, the Hub "
                f"has {self.size_bytes}; tell the repository's owner"
            )
        if self._feed.fill(self, buffer, offset):
            return
        kept = self._from_kept(offset, buffer.size)
        if kept is not None:
            buffer[:] = kept
        else:
            self._fetch(buffer, offset)
            self.was_read_aside |= self._feed.is_open

    def lies_at(self, path: Path) -> bool:
        """It is on no disk."""
        return False

    def close(self) -> None:
        """Let go of what is kept."""
        self._kept.clear()

    def count(self, n_bytes: int) -> None:
        """So many more came over the network."""
        with self._counting:
            self.fetched_bytes += n_bytes

    def _fetch(self, buffer: Bytes, offset: int) -> None:
        if buffer.size:
            self.remote.read_into(buffer.data, offset)
            self.count(buffer.size)

    def _keep(self, begin: int, count: int) -> Bytes:
        data = np.empty(count, np.uint8)
        self._fetch(data, begin)
        if count == self.size_bytes and self.sha256 is not None:
            WholeFile(self.path, count, self.sha256).update(0, data.data)
        self._kept[begin] = data
        return data

    def _has_kept(self, offset: int, count: int) -> bool:
        return self._from_kept(offset, count) is not None

    def _from_kept(self, offset: int, count: int) -> Bytes | None:
        for begin, data in list(self._kept.items()):
            if begin <= offset and offset + count <= begin + data.size:
                return data[offset - begin :][:count]
        return None


def _near(pieces: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The pieces, those together that lie near to each other."""
    group: list[tuple[int, int]] = []
    for piece in pieces:
        if group and piece[0] - sum(group[-1]) > NEAR_BYTES:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


class Feed:
    """The remote tensors of one checkpoint, in the order in which they are wanted, as one stream.

    The stream is never further ahead of what is ``done`` than the window, or than the end of the
    tensor at work: that is what a killed process loses. For one thread.
    """

    def __init__(self, open_stream: OpenStream, window_bytes: int = WINDOW_BYTES) -> None:
        self._open_stream, self._window = open_stream, window_bytes
        self._stream: Stream | None = None
        self._runs: tuple[Run, ...] = ()
        self._run_of: dict[str, Run] = {}
        self._checks: tuple[list[Check], ...] = ()
        self._index = 0  # of the run at work
        self._position = 0  # in the stream
        self._stops: list[tuple[str, int]] = []
        self._n_done = 0
        self._done: set[str] = set()
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._hashing: deque[Future[None]] = deque()

    @property
    def is_open(self) -> bool:
        """Whether tensors are expected."""
        return self._stream is not None

    def expect(
        self, extents: Sequence[Extent], checksums: Mapping[Path, Sequence[StoredRange]]
    ) -> None:
        """These will be read, in this order. Begins to fetch them."""
        self.close()
        self._runs = plan([e for e in extents if e.file.is_remote and not _remote(e.file).is_held])
        self._run_of = {extent.name: run for run in self._runs for extent in run.extents}
        self._checks = tuple(_checks(run, checksums) for run in self._runs)
        self._stops = [stop for run in self._runs for stop in run.stops()]
        self._index = self._position = self._n_done = 0
        self._done = set()
        for run in self._runs:
            _remote(run.file).has_passed = False
        if self._runs:
            spans = [span for run in self._runs for span in self._spans(run)]
            self._stream = self._open_stream(spans, self._window)
            self._stream.allow(self._limit())

    def has_room(self, extent: Extent, offset: int) -> bool:
        """Whether the file may be read up to ``offset`` before more is done."""
        run = self._run_of.get(extent.name)
        if run is None:
            return True
        return run.place(offset if extent.in_order else extent.end) <= self._limit()

    def done(self, name: str) -> None:
        """What was made of the tensor is safe."""
        self._done.add(name)
        before = self._n_done
        while self._n_done < len(self._stops) and self._stops[self._n_done][0] in self._done:
            self._n_done += 1
        if self._n_done > before and self._stream is not None:
            self._stream.allow(self._limit())
        while self._hashing and (self._hashing[0].done() or self._n_done == len(self._stops)):
            self._hashing.popleft().result()

    def fill(self, file: RemoteWeightFile, buffer: Bytes, offset: int) -> bool:
        """Fill the buffer, if its bytes come next in the stream, or nearly so."""
        run = self._near_run(file, offset, offset + buffer.size)
        if run is None or self._stream is None or not buffer.size:
            return False
        end = run.place(offset + buffer.size)
        self._stream.allow(max(self._limit(), end))
        self._skip(self._stream, run.place(offset))
        self._take(self._stream, buffer.data)
        if end >= run.place(run.extents[-1].end):
            self._skip(self._stream, run.stop)  # so that its last bytes are checked, too
        return True

    def close(self) -> None:
        """Stop fetching."""
        while self._hashing:
            wait([self._hashing.popleft()])
        if self._stream is not None:
            self._stream.close()
            self._stream, self._runs = None, ()

    def _limit(self) -> int:
        """Where the stream must stop until more is done."""
        done = self._stops[self._n_done - 1][1] if self._n_done else 0
        at_work = self._stops[min(self._n_done, len(self._stops) - 1)][1]
        return max(done + self._window - PIECE_BYTES, at_work)

    def _spans(self, run: Run) -> Iterator[Span]:
        """Cut where a tensor ends that fills the window alone: no piece of the stream then reaches
        beyond what is allowed."""
        remote, begin = _remote(run.file).remote, run.begin
        for extent in run.extents[:-1]:
            if extent.end - extent.begin >= self._window - PIECE_BYTES:
                yield remote, begin, extent.end
                begin = extent.end
        yield remote, begin, run.end

    def _near_run(self, file: RemoteWeightFile, begin: int, end: int) -> Run | None:
        """The run that holds these bytes, if they are not behind, nor far ahead."""
        for run in self._runs[self._index :]:
            if run.start - self._position > GAP_BYTES:
                break
            is_inside = run.file is file and run.begin <= begin and end <= run.end
            if is_inside and 0 <= run.place(begin) - self._position <= GAP_BYTES:
                return run
        return None

    def _skip(self, stream: Stream, position: int) -> None:
        while self._position < position:
            left = min(position, self._runs[self._index].stop) - self._position
            self._take(stream, memoryview(bytearray(min(left, GAP_BYTES))))

    def _take(self, stream: Stream, view: memoryview) -> None:
        """The next bytes, which lie in one run."""
        run = self._runs[self._index]
        stream.read_into(view)
        _remote(run.file).count(len(view))
        self._hashing.append(self._hasher.submit(self._check, self._index, self._position, view))
        if len(self._hashing) > HASHED_LATER:
            self._hashing.popleft().result()
        self._position += len(view)
        self._index += self._position == run.stop

    def _check(self, index: int, position: int, view: memoryview) -> None:
        """Hash what has come. Raises WrongBytes at a file's end, or an entry's."""
        run = self._runs[index]
        for check in self._checks[index]:
            check.update(run.begin + position - run.start, view)
        if position + len(view) == run.stop:
            _remote(run.file).has_passed = run.is_whole


def _remote(file: SourceFile) -> RemoteWeightFile:
    if not isinstance(file, RemoteWeightFile):
        raise TypeError(f"{file.path} is not remote")
    return file


def _checks(run: Run, checksums: Mapping[Path, Sequence[StoredRange]]) -> list[Check]:
    path, checks = run.file.path, list[Check]()
    if run.is_whole and run.file.sha256 is not None:
        checks.append(WholeFile(path, run.file.size_bytes, run.file.sha256))
    if entries := checksums.get(path):
        checks.append(Entries(path, entries, run.begin, run.end))
    return checks
