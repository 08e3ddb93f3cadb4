"""Writing beside the answers: one entry at a time, in a thread, and the newest that waits for it.

A process that ends waits a few seconds for the entry that is being written, no longer than it saves
next time, and for no other. A thread that is stuck on a disk keeps nobody from leaving: what it
leaves behind is no entry.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fwlocal.prefix_cache.cache import PrefixCache
from fwlocal.prefix_cache.setting import Setting

PATIENCE_S = 5.0  # at most
_LEAVING_S = 1.0  # to remove what was begun
_HOPELESS = ("failed", "no room")  # as the next one will


@dataclass(frozen=True)
class _Job:
    setting: Setting
    tokens: Sequence[int]
    state: Any
    prefill_s: float


class Writer:
    """Puts states into ``cache``; ``close`` it before the process ends. ``is_hopeless`` once one
    could not be kept, as no other could either."""

    def __init__(self, cache: PrefixCache) -> None:
        self._cache = cache
        self.is_hopeless = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running: _Job | None = None
        self._pending: _Job | None = None
        self._stop = threading.Event()

    def give(self, setting: Setting, tokens: Sequence[int], state: Any, prefill_s: float) -> None:
        """Have a state kept, as ``PrefixCache.put`` does it. ``state`` must not change any more.
        While another is being written it waits, in place of one that waited before."""
        job = _Job(setting, tuple(tokens), state, prefill_s)
        with self._lock:
            if self._thread is not None:
                self._pending = job
            elif not self._stop.is_set():
                self._start(job)

    @property
    def is_busy(self) -> bool:
        """Whether an entry is being written."""
        with self._lock:
            return self._thread is not None

    def _start(self, job: _Job) -> None:
        thread = threading.Thread(target=self._work, args=(job,), name="prefix-cache", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or none any more
            return
        self._thread, self._running = thread, job

    def _work(self, first: _Job) -> None:
        job: _Job | None = first
        while job is not None:
            try:
                self._put(job)
            except BaseException:  # a bug: it is told by the thread's end, and the next is written
                with self._lock:
                    self._thread = self._running = self._pending = None
                raise
            with self._lock:
                job, self._pending = self._pending, None
                self._running = job
                if job is None:
                    self._thread = None

    def _put(self, job: _Job) -> None:
        outcome = self._cache.put(
            job.setting, job.tokens, job.state, job.prefill_s, self._stop.is_set
        )
        if outcome in _HOPELESS:
            self.is_hopeless = True

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Wait for the entry that is being written, ``patience_s`` seconds at most, and no longer
        than evaluating it took; what waits behind it is dropped. An interrupt ends the waiting
        too."""
        with self._lock:
            self._pending, thread, job = None, self._thread, self._running
        try:
            if thread is not None and job is not None:
                thread.join(min(patience_s, job.prefill_s))
        finally:
            self._stop.set()
        if thread is not None:
            thread.join(_LEAVING_S)
