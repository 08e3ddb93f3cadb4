"""The side that runs in the child: it answers messages until its parent is gone."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, NoReturn

from fwlocal.children.frames import (
    FAILURE,
    LAST_WORDS,
    MESSAGE,
    Failure,
    pack,
    read_frame,
    unpack,
    write_frame,
)
from fwlocal.interrupts import Interrupt

_ABORTED = 134  # a shell's exit status for SIGABRT


class Parent:
    """The child's end: it owns stdin and stdout from here on, and what anything else prints goes
    to stderr. ``interrupt`` is set by the parent's ``Child.interrupt``.

    Ctrl-C reaches all processes of a terminal, and SIGTERM often a whole group; the parent decides
    what they mean. The process ends at once when the parent is gone.
    """

    def __init__(self, interrupt: Interrupt | None = None) -> None:
        self.interrupt = interrupt or Interrupt()
        self._commands, self._replies = _take_over_pipes()
        _leave_signals_to_the_parent()
        self._sending, self._turning = threading.Lock(), threading.Lock()
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._latest = self._current = _Task(b"")
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: object) -> None:
        """Send ``message`` to the parent; from any thread."""
        self._write(MESSAGE, pack(message))

    def report_aborts(self) -> None:
        """Send what a failed check of llama.cpp's says, as the last words of this process."""
        from fwlocal import llama

        llama.exit_on_abort(self._abort)

    def give_up(self, error: Exception) -> NoReturn:
        """End this process at once, whatever it does; ``error`` is what the parent raises."""
        self._write(FAILURE, pack(Failure.of(error)))
        os._exit(1)

    def serve(self, handle: Callable[[object], Iterator[object]]) -> NoReturn:
        """Answer each message with what ``handle`` makes of it, until the parent is gone."""
        while True:
            self._take(self._tasks.get())
            try:
                for reply in handle(unpack(self._current.payload)):
                    self.send(reply)
            except Exception as error:
                self._write(FAILURE, pack(Failure.of(error)))

    def _listen(self) -> NoReturn:
        while (frame := read_frame(self._commands)) is not None:
            kind, payload = frame
            with self._turning:
                if kind == MESSAGE:
                    self._latest = _Task(payload)
                    self._tasks.put(self._latest)
                else:
                    self._interrupt_latest(unpack(payload))
        os._exit(0)

    def _interrupt_latest(self, signum: int) -> None:
        """It is meant for the last message, which may still wait for its turn."""
        self._latest.signal = signum
        if self._latest is self._current:
            self.interrupt.set(signum)

    def _take(self, task: _Task) -> None:
        with self._turning:
            self._current = task
            self.interrupt.clear()
            if task.signal is not None:
                self.interrupt.set(task.signal)

    def _write(self, kind: bytes, payload: bytes) -> None:
        try:
            with self._sending:
                write_frame(self._replies, kind, payload)
        except OSError:
            os._exit(0)

    def _abort(self, message: str) -> NoReturn:
        self._write(LAST_WORDS, message.encode("utf-8", "replace"))
        os._exit(_ABORTED)


@dataclass
class _Task:
    """A message, pickled, and the signal that is to stop the work on it."""

    payload: bytes
    signal: int | None = None


def serve(
    handle: Callable[[object], Iterator[object]], *, reports_aborts: bool = False
) -> NoReturn:
    """Be a child that does nothing but ``handle`` messages; it does not return."""
    parent = Parent()

    def with_aborts(message: object) -> Iterator[object]:
        nonlocal reports_aborts
        if reports_aborts:  # here, so that a llama.cpp that cannot be loaded is told to the parent
            parent.report_aborts()
            reports_aborts = False
        yield from handle(message)

    parent.serve(with_aborts)


def _leave_signals_to_the_parent() -> None:
    """The terminal sends its signals to all processes of the foreground."""
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    for signum in (signal.SIGINT, signal.SIGTERM, *hangup):
        signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _take_over_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """stdin and stdout under other numbers; 0 becomes empty, and 1 what 2 is, because native code
    may print."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        os.fstat(2)
    except OSError:  # the caller closed stderr
        os.dup2(nowhere, 2)
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    if nowhere > 2:
        os.close(nowhere)
    return pipes
