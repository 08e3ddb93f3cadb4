"""Ctrl-C and SIGTERM as a flag that a loop in native code can poll.

A Python exception cannot stop a running C call; a flag that llama.cpp's callbacks read can. The
second signal ends the process the system's way, should the first not be heard.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Interrupt:
    """Set from a signal handler or another thread, read by whoever does the work."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def set(self, signum: int = signal.SIGINT) -> None:
        """Ask the work to stop."""
        self.signal = signum

    def clear(self) -> None:
        """Forget it, before new work."""
        self.signal = None

    def is_set(self) -> bool:
        """Whether the work should stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell reports for a program that this signal ended."""
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def catching(interrupt: Interrupt, *, patient: bool = False) -> Iterator[None]:
    """While inside, SIGINT and SIGTERM set ``interrupt``; main thread only. A second one ends the
    process unless ``patient``."""

    def handle(signum: int, _: FrameType | None) -> None:
        interrupt.set(signum)
        if not patient:
            signal.signal(signum, signal.SIG_DFL)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [(signum, signal.signal(signum, handle)) for signum in signals]
    try:
        yield
    finally:
        for signum, handler in before:
            signal.signal(signum, handler)
