"""Leaving by a signal: the terminal disappears (SIGHUP), or the chat is terminated (SIGTERM).

All that was said is on the disk by then; what is left is to end, with what a shell reports for the
signal, 129 or 143, the terminal as it was, and to write nothing to one that is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from fwlocal.interrupts import Interrupt


@contextlib.contextmanager
def leaving(at_work: Callable[[], Interrupt | None]) -> Iterator[None]:
    """While inside, SIGHUP ends an answer or a load through the interrupt of ``at_work``, and where
    that is None all else at once, by SystemExit(129); SIGTERM, which answers and loads hear by
    themselves, ends all else by SystemExit(143). Where there is no SIGHUP, or it is ignored
    (nohup), it is left alone; main thread only."""
    with _leaving_on_terminate(), _leaving_on_hangup(at_work):
        yield


@contextlib.contextmanager
def _leaving_on_terminate() -> Iterator[None]:
    def handle(signum: int, _: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _leaving_on_hangup(at_work: Callable[[], Interrupt | None]) -> Iterator[None]:
    if os.name != "posix" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield
        return
    gone = []

    def handle(signum: int, _: FrameType | None) -> None:
        gone.append(signum)
        _silence()
        interrupt = at_work()
        if interrupt is None:
            raise SystemExit(128 + signum)
        interrupt.set(signum)  # an exception would be lost in a callback of native code

    before = signal.signal(signal.SIGHUP, handle)
    try:
        yield
    except Exception:  # the editor cannot tidy up a terminal that is gone
        if not gone:
            raise
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if gone else before)
    if gone:
        raise SystemExit(128 + signal.SIGHUP)


def _silence() -> None:
    """stdout and stderr lead nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
