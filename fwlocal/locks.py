"""One lock for each stored file, with the name of who holds it.

The lock itself is the operating system's, on ``.FILE.gguf.lock``, and ends with its process. Who
holds it is told by ``.FILE.gguf.holder``: a holder whose process died is left behind, and is never
an obstacle. What is done under a lock, this module does not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.errors import StoreError

if TYPE_CHECKING:
    from filelock import FileLock

POLL_S = 0.2
SIGNING_TRIES = 2
_HOLDER_BYTES = 4096


class Busy(StoreError):
    """Another process is at work on the file."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, since when (ISO 8601, UTC), and what for, as in "downloading it"."""

    pid: int
    host: str
    since: str
    doing: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} is {self.doing}"


def lock_path(path: Path) -> Path:
    """The file that the operating system's lock for ``path`` is on."""
    return path.with_name(f".{path.name}.lock")


def holder_path(path: Path) -> Path:
    """The file that names the holder of the lock for ``path``."""
    return path.with_name(f".{path.name}.holder")


def _fresh_holder_path(path: Path) -> Path:
    """Where the holder's file is written before it gets its name."""
    return path.with_name(f".{path.name}.holder-new")


def lock_files(path: Path) -> tuple[Path, ...]:
    """Every file that a lock for ``path`` makes, the lock itself last."""
    return _fresh_holder_path(path), holder_path(path), lock_path(path)


def holder_of(path: Path) -> Holder | None:
    """Who says that it is at work on ``path``; None for nobody, or a process of this machine that
    is no more. A look, without touching the lock."""
    holder = _read_holder(holder_path(path))
    return None if holder is None or _is_dead(holder) else holder


def _read_holder(path: Path) -> Holder | None:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_HOLDER_BYTES))
        holder = Holder(*(found[key] for key in ("pid", "host", "since", "doing")))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    texts = (holder.host, holder.since, holder.doing)
    sound = type(holder.pid) is int and all(isinstance(t, str) and t.isprintable() for t in texts)
    return holder if sound else None


def _is_dead(holder: Holder) -> bool:
    """Whether it is known that the holder is no more; of another machine, nothing is known."""
    import psutil

    return holder.host == socket.gethostname() and not (
        0 < holder.pid < 2**31 and psutil.pid_exists(holder.pid)
    )


class Lock:
    """The lock for the file at ``path``, which need not exist; its folder is made if need be. One
    thread at a time may use it; another may release it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None

    def acquire(
        self, doing: str, *, wait: bool, on_wait: Callable[[str], None] = lambda holder: None
    ) -> None:
        """Take the lock to be ``doing`` something, such as "downloading it".

        With ``wait``, ``on_wait`` is told once who holds it, and the wait may be long. Raises
        Busy naming the holder without ``wait``, and OSError where no lock can be made.
        """
        from filelock import FileLock

        lock = FileLock(lock_path(self.path), timeout=0, thread_local=False)
        told, tries = False, 0
        while not _is_acquired(lock):
            found, tries = holder_of(self.path), tries + 1
            if found is not None or tries > SIGNING_TRIES:  # it signs a moment after it takes it
                holder = str(found or "another process is at work on it")
                if not wait:
                    raise Busy(f"{self.path}: {holder}; wait for that, or stop it")
                if not told:
                    on_wait(holder)
                    told = True
            time.sleep(POLL_S)
        self._lock = lock
        self._sign(doing)

    def _sign(self, doing: str) -> None:
        """Name this process as the holder, as well as a full disk lets us."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        holder = Holder(os.getpid(), socket.gethostname(), since, doing)
        path, fresh = holder_path(self.path), _fresh_holder_path(self.path)
        try:
            with contextlib.suppress(OSError):
                for old in (path, fresh):
                    old.unlink(missing_ok=True)
                with fresh.open("x", encoding="utf-8") as file:
                    json.dump(asdict(holder), file)
                os.replace(fresh, path)
        except BaseException:  # a signal
            self.release()
            raise

    def release(self) -> None:
        """Give it back and leave no file of it: whoever waits on the old lock file finds that it is
        gone and takes a new one. Without a lock taken, nothing is done."""
        lock, self._lock = self._lock, None
        if lock is not None:
            for path in lock_files(self.path):
                with contextlib.suppress(OSError):
                    path.unlink()
            lock.release()


def _is_acquired(lock: FileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire()
    except Timeout:
        return False
    except NotImplementedError as error:  # a file system without locks
        raise OSError(str(error)) from error
    return True


@contextlib.contextmanager
def held(
    path: Path,
    doing: str,
    *,
    wait: bool = False,
    on_wait: Callable[[str], None] = lambda holder: None,
) -> Iterator[None]:
    """The lock for ``path``, held while inside; raises what ``Lock.acquire`` does."""
    lock = Lock(path)
    lock.acquire(doing, wait=wait, on_wait=on_wait)
    try:
        yield
    finally:
        lock.release()
