"""Bytes of remote files, one after the other, fetched ahead by a few connections at once.

The order is the reader's, memory is bounded by the window, and what a reader allows bounds how much
is lost when the process ends.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fwlocal.hub.remote_file import RemoteFile

WINDOW_BYTES = 64 << 20
N_CONNECTIONS = 4
CHUNK_BYTES = 8 << 20
_POLL_S = 0.2  # so that Ctrl-C is heard
_PATIENCE_S = 1.0  # for connections to end


@dataclass(frozen=True)
class Span:
    """The bytes of ``file`` from ``begin`` up to ``end``."""

    file: RemoteFile
    begin: int
    end: int


@dataclass(frozen=True)
class _Chunk:
    """One request: ``end`` is its last byte's position in the stream, plus one."""

    file: RemoteFile
    offset: int
    size: int
    end: int


class Stream:
    """The bytes of all ``spans``. One thread reads; ``close`` when done or when it fails."""

    def __init__(
        self,
        spans: Sequence[Span],
        *,
        window_bytes: int = WINDOW_BYTES,
        n_connections: int = N_CONNECTIONS,
    ) -> None:
        """At most ``window_bytes`` are in memory and not yet read."""
        self.position = 0  # bytes read, counted over all spans
        self._window = window_bytes
        size = max(1, min(CHUNK_BYTES, window_bytes // n_connections))
        self._todo = enumerate(_chunks(spans, size))
        self._next = next(self._todo, None)
        self._ready: dict[int, tuple[_Chunk, bytearray]] = {}
        self._free: list[bytearray] = []
        self._reading = 0  # the chunk that is read now
        self._allowed = math.inf
        self._failures: dict[int, BaseException] = {}  # by chunk; those before it still come
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"fetch-{i}", daemon=True)
            for i in range(n_connections)
        ]
        self._started = False

    def allow(self, position: int) -> None:
        """Fetch nothing beyond ``position``, or the window from the start if that is more."""
        with self._changed:
            before = 0.0 if self._allowed is math.inf else self._allowed
            self._allowed = max(position, self._window, before)
            self._changed.notify_all()

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` with the next bytes. Raises NetworkError, and ValueError past the end."""
        self._start()
        done = 0
        while done < len(view):
            chunk, data = self._wait_for(self._reading)
            start = self.position - (chunk.end - chunk.size)
            count = min(chunk.size - start, len(view) - done)
            view[done : done + count] = memoryview(data)[start : start + count]
            done += count
            self._advance(chunk, data, count)

    def close(self) -> None:
        """Stop fetching."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_PATIENCE_S)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _wait_for(self, index: int) -> tuple[_Chunk, bytearray]:
        with self._changed:
            while index not in self._ready:
                if index in self._failures:
                    raise self._failures[index]
                if self._stop.is_set() or not any(t.is_alive() for t in self._threads):
                    raise ValueError("read past the end of the stream")
                self._changed.wait(_POLL_S)
            return self._ready[index]

    def _advance(self, chunk: _Chunk, data: bytearray, count: int) -> None:
        with self._changed:
            self.position += count
            if self.position == chunk.end:
                del self._ready[self._reading]
                self._free.append(data)
                self._reading += 1
            self._changed.notify_all()

    def _run(self) -> None:
        """A connection: the next chunk, as long as there is one and room for it."""
        while (taken := self._take()) is not None:
            index, chunk, data = taken
            try:
                chunk.file.read_into(memoryview(data)[: chunk.size], chunk.offset, self._stop)
            except BaseException as error:  # told to the reader
                self._failures[index] = error
            else:
                if self._stop.is_set():  # it may have ended early
                    return
                self._ready[index] = (chunk, data)
            with self._changed:
                self._changed.notify_all()

    def _take(self) -> tuple[int, _Chunk, bytearray] | None:
        with self._changed:
            while self._next is not None and not self._failures and not self._stop.is_set():
                index, chunk = self._next
                limit = min(self.position + self._window, self._allowed)
                # The chunk that the reader waits for is always fetched.
                if chunk.end <= limit or chunk.end - chunk.size <= self.position:
                    self._next = next(self._todo, None)
                    data = self._free.pop() if self._free else bytearray(chunk.size)
                    if len(data) < chunk.size:
                        data = bytearray(chunk.size)
                    return index, chunk, data
                self._changed.wait(_POLL_S)
            return None


def _chunks(spans: Sequence[Span], size: int) -> Iterator[_Chunk]:
    end = 0
    for span in spans:
        for offset in range(span.begin, span.end, size):
            count = min(size, span.end - offset)
            end += count
            yield _Chunk(span.file, offset, count, end)
