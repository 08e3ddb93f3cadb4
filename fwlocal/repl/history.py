"""What was typed in former chats: one JSON string a line, private to the user, bounded.

A file that is damaged gives what is whole in it; where it cannot be read or written, the chat goes
on without, and says so once. Of the editor, this module knows nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from fwlocal.repl.typed import clean

MOST_ENTRIES = 1000
MOST_BYTES = 1 << 20  # that are read; a file of twice that is cut when the next chat begins
MOST_ENTRY_BYTES = 64 << 10  # longer ones, mostly pasted, are only in this chat's history


def default_history_path() -> Path:
    """FWLOCAL_HISTORY, else a file beside the user's other data; it need not exist."""
    named = os.environ.get("FWLOCAL_HISTORY")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_data_path("fwlocal", appauthor=False) / "history.jsonl"


def is_kept(text: str) -> bool:
    """Whether a message belongs in the history: as in shells, not if it begins with a space."""
    return bool(text.strip()) and not text.startswith(" ")


class HistoryFile:
    """The file at ``path``, None for none; ``warn`` is told once, in a line, that it is of no
    use."""

    def __init__(self, path: Path | None, warn: Callable[[str], None]) -> None:
        self.path = path
        self._warn = warn

    def read(self) -> list[str]:
        """What was typed, the oldest first; the last of it, where it is much."""
        if self.path is None or not self.path.exists():
            return []
        try:
            data, size_bytes = _tail(self.path)
            entries = [text for line in data.splitlines() if (text := _entry(line))]
            if size_bytes > 2 * MOST_BYTES:
                _rewrite(self.path, entries[-MOST_ENTRIES:])
        except OSError as error:
            self._give_up(error)
            return []
        return entries[-MOST_ENTRIES:]

    def add(self, text: str) -> None:
        """Keep a message for later chats."""
        line = _line(text)
        if self.path is None or len(line) > MOST_ENTRY_BYTES:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+", buffering=0, opener=_private) as file:
                if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                    with contextlib.suppress(PermissionError):  # it is another's
                        os.fchmod(file.fileno(), 0o600)
                file.write(line if _ends_whole(file) else b"\n" + line)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        where, self.path = self.path, None
        self._warn(
            f"{where}: {error.strerror or error}; what is typed here is not kept for the next chat"
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _entry(line: bytes) -> str | None:
    """The message in a line; None for a damaged one."""
    try:
        found = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return clean(found) if isinstance(found, str) else None


def _tail(path: Path) -> tuple[bytes, int]:
    """The last whole lines of a file, MOST_BYTES at most, and how many bytes it has."""
    if not path.is_file():
        raise OSError(f"{path} is no file")
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        start = max(0, size_bytes - MOST_BYTES)
        file.seek(start)
        data = file.read(MOST_BYTES)
    return (data.partition(b"\n")[2] if start else data), size_bytes


def _ends_whole(file: FileIO) -> bool:
    """Whether the last line, if there is one, is complete; a crash may have cut it."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _rewrite(path: Path, entries: list[str]) -> None:
    """Have these alone in the file; a link to it stays one."""
    target = Path(os.path.realpath(path))
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with open(fresh, "wb", opener=_private) as file:
            file.writelines(_line(text) for text in entries)
        os.replace(fresh, target)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
