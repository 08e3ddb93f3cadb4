"""A session's file while a chat writes it: locked, only ever appended to, synced by the turn.

What is found damaged when it is opened goes to ``NAME.jsonl.damaged`` first. It knows bytes and
lines, not what they mean to a chat.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
from pathlib import Path

from fwlocal.errors import StoreError
from fwlocal.files import sized, sync_folder, write_atomically
from fwlocal.locks import Busy, Lock
from fwlocal.sessions.events import NewerFormat
from fwlocal.sessions.reading import Session, read, with_header

DAMAGED = ".damaged"
MAX_FILE_BYTES = 1 << 30
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_PRIVATE = 0o600


def damaged_path(path: Path) -> Path:
    """Where the damaged lines of ``path`` are kept."""
    return path.with_name(path.name + DAMAGED)


def read_file(path: Path) -> Session:
    """What a file says, without touching it. Raises StoreError naming it."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise StoreError(f"{path}: {sized(size_bytes)} are no chat; move the file elsewhere")
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise StoreError(f"{path}: it is UTF-16 text; save it as UTF-8")
        return read(data)
    except NewerFormat as error:
        raise StoreError(f"{path}: {error} is of a newer fwlocal; update fwlocal") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error


class GrowingFile:
    """The file at ``path``, which need not exist before the first line, and its lock; a link is
    followed. Raises Busy naming who has it, and OSError where there can be none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _make_folder(path.parent)
        self._target = Path(os.path.realpath(path))
        self._lock = locked(path, "chatting in it")
        self._handle: int | None = None
        self._size_bytes = 0
        self.is_begun = False  # whether a line was written or read

    def close(self) -> None:
        """Give it back; nothing is left to be written."""
        self._close_handle()
        self._lock.release()

    def append(self, data: bytes, *, synced: bool) -> None:
        """Add whole lines, on the disk itself when ``synced``. Raises OSError, and then they are
        not there, nor a half of one."""
        handle = self._opened()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            if synced:
                os.fsync(handle)
        except BaseException:
            self._cut_back(handle)
            raise
        self._size_bytes += len(data)
        self.is_begun = self.is_begun or bool(data)

    def load(self) -> Session:
        """What it says, its damaged lines set aside, and a lost header made anew. Raises
        StoreError, and OSError where these cannot be set aside, or nothing can be added."""
        found = read_file(self._target)
        session = with_header(found)
        if session != found or session.damages or not _ends_a_line(self._target):
            if session.damages:
                _set_aside(session, damaged_path(self.path))
            mode = self._target.stat().st_mode
            write_atomically(self._target, b"".join(line + b"\n" for line in session.sound))
            self._target.chmod(mode)
        self.append(b"", synced=True)
        self.is_begun = not session.says_nothing
        return session

    def rename(self, path: Path) -> None:
        """Give it another name, which must be free. Raises Busy, FileExistsError and OSError."""
        lock = locked(path, "chatting in it")
        try:
            if os.path.lexists(path):
                raise FileExistsError(path)
            self._close_handle()  # Windows renames no open file
            os.rename(self.path, path)
            with contextlib.suppress(FileNotFoundError):
                os.rename(damaged_path(self.path), damaged_path(path))
        except BaseException:
            lock.release()
            raise
        is_link = path.is_symlink()  # then what it leads to stays where it is, and locked
        self.path, self._target = path, Path(os.path.realpath(path))
        kept, other = (self._lock, lock) if is_link else (lock, self._lock)
        self._lock = kept
        other.release()

    def _opened(self) -> int:
        if self._handle is None:
            self._handle = os.open(self._target, _FLAGS, _PRIVATE)
            self._size_bytes = os.fstat(self._handle).st_size
            sync_folder(self._target.parent)
        return self._handle

    def _cut_back(self, handle: int) -> None:
        """Take back what was not wholly written."""
        with contextlib.suppress(OSError):
            os.ftruncate(handle, self._size_bytes)
            if self._size_bytes == 0 and not self.is_begun:
                self._close_handle()
                self._target.unlink()

    def _close_handle(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)


def _make_folder(folder: Path) -> None:
    """Raises OSError, though never FileExistsError, which is for a name that is taken."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from error


def locked(path: Path, doing: str) -> Lock:
    """The lock of the session at ``path``, or of what that links to. Raises Busy and OSError."""
    lock = Lock(Path(os.path.realpath(path)))
    try:
        lock.acquire(doing, wait=False)
    except Busy as busy:
        holder = str(busy).removeprefix(f"{lock.path}: ").partition(";")[0]
        raise Busy(
            f"session {path.stem}: {holder}; leave that chat, or take another with --session NAME"
        ) from None
    return lock


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, size_bytes - 1))
        return file.read(1) in (b"\n", b"")


def _set_aside(session: Session, path: Path) -> None:
    handle = os.open(path, _FLAGS, _PRIVATE)
    with os.fdopen(handle, "wb") as file:
        file.writelines(damage.data + b"\n" for damage in session.damages)
        file.flush()
        os.fsync(file.fileno())
