"""The side that starts a child, sends it messages and outlives it."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import IO, Any

from fwlocal.children.frames import (
    FAILURE,
    INTERRUPT,
    LAST_WORDS,
    MESSAGE,
    Frame,
    pack,
    read_frame,
    unpack,
    write_frame,
)

GRACE_S = 2.0  # for a child to end by itself once its stdin is closed
_TURN_S = 0.5  # Windows hears Ctrl-C only between two waits

# The child searches modules exactly where this process does; -m alone would put the working
# folder first, where a user's own queue.py would stand before Python's.
_STARTER = (
    "import sys; sys.path[:] = {path!r}; del sys.argv[0]; import runpy; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


class ChildDied(Exception):
    """A child ended before it had answered. ``status`` is its exit status, a signal negative;
    ``last_words`` are llama.cpp's own when one of its checks failed."""

    def __init__(self, status: int, last_words: str | None) -> None:
        super().__init__(last_words or _ending(status))
        self.status = status
        self.last_words = last_words


class Child:
    """A child that runs ``module`` with ``arguments``; it ends with this object at the latest."""

    def __init__(self, module: str, arguments: Sequence[str] = ()) -> None:
        starter = _STARTER.format(path=[str(folder) for folder in sys.path])
        command = [sys.executable, "-c", starter, module, *arguments]
        with _signals_held():
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        reader = threading.Thread(
            target=_read_all, args=(self._process.stdout, self._frames), daemon=True
        )
        reader.start()
        self._sending = threading.Lock()
        self._last_words: str | None = None
        self._ended = False
        self._end = weakref.finalize(self, _end, self._process, reader)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._end.alive and self._process.poll() is None

    def close(self) -> None:
        """End it, whatever it does."""
        self._end()
        self._ended = True

    def send(self, message: object) -> None:
        """Have the child handle ``message`` once it is done with those before. Raises ChildDied."""
        self._write(MESSAGE, pack(message))

    def interrupt(self, signum: int = signal.SIGINT) -> None:
        """Set the child's Interrupt for the last message sent, also while native code runs; too
        late, it does nothing."""
        with contextlib.suppress(ChildDied):
            self._write(INTERRUPT, pack(int(signum)))

    def receive(self, timeout_s: float | None = None) -> Any:
        """The next message of the child's. What its handler raised is raised here: a FwlocalError
        as it was, a bug as ChildFailed. Raises ChildDied, and TimeoutError after ``timeout_s``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended:
            frame = self._next_frame(deadline)
            if frame is None:
                self.close()
                break
            kind, payload = frame
            if kind == MESSAGE:
                return unpack(payload)
            if kind == FAILURE:
                raise unpack(payload).error()
            self._last_words = payload.decode("utf-8", "replace")
        raise self._died()

    def _next_frame(self, deadline: float | None) -> Frame | None:
        while True:
            left = _TURN_S if deadline is None else deadline - time.monotonic()
            try:
                return self._frames.get(timeout=max(0.0, min(left, _TURN_S)))
            except queue.Empty:
                if left <= 0:
                    raise TimeoutError("the child has said nothing") from None

    def _write(self, kind: bytes, payload: bytes) -> None:
        stdin = self._process.stdin
        try:
            with self._sending:
                if stdin is None or stdin.closed:
                    raise BrokenPipeError
                write_frame(stdin, kind, payload)
        except OSError:  # EPIPE, on Windows EINVAL
            self._hear_last_words()
            raise self._died() from None

    def _hear_last_words(self) -> None:
        """What the child said before it ended."""
        self.close()
        with contextlib.suppress(queue.Empty):
            while (frame := self._frames.get_nowait()) is not None:
                if frame[0] == LAST_WORDS:
                    self._last_words = frame[1].decode("utf-8", "replace")

    def _died(self) -> ChildDied:
        return ChildDied(self._process.returncode, self._last_words)


def _read_all(file: IO[bytes], frames: queue.SimpleQueue[Frame | None]) -> None:
    """Keep a child from ever waiting for its parent; None is put at the end."""
    while (frame := read_frame(file)) is not None:
        frames.put(frame)
    frames.put(None)


def _end(process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
    """Close a child's stdin, which ends it, or kill it; reap it in any case."""
    with contextlib.suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
    if reader is not threading.current_thread():  # the garbage collector runs anywhere
        reader.join()
    process.stdout.close()  # type: ignore[union-attr]


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A child started inside hears no Ctrl-C before it has made up its mind about it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"
