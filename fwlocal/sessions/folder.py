"""The folder of sessions: their names, their files, and which was used last.

What is in a file, this module does not know.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import Path

from fwlocal.errors import FwlocalError, StoreError, UsageError
from fwlocal.sessions.growing import damaged_path, locked

SUFFIX = ".jsonl"
MAX_NAME = 100
MAX_NAME_BYTES = 200  # with what is put around it, below the 255 that file systems allow
CLOCK_SLACK_S = 300  # between this machine's clock and that of its disks
_NAME = re.compile(r"\w[\w.-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows
_WORDS_IN_NAME, _LONGEST_WORDS = 5, 40


class NoSuchSession(FwlocalError):
    """No session has that name."""


def default_folder() -> Folder:
    """FWLOCAL_SESSIONS, else a folder beside the user's other data; it need not exist."""
    named = os.environ.get("FWLOCAL_SESSIONS")
    if named:
        return Folder(Path(named).expanduser())
    import platformdirs

    return Folder(platformdirs.user_data_path("fwlocal", appauthor=False) / "sessions")


@dataclass(frozen=True)
class Folder:
    """The sessions in ``root``."""

    root: Path

    def path(self, name: str) -> Path:
        """The file of a session of that name, there or not. Raises UsageError for no good name; a
        file that is there may have any."""
        if self._has(name):
            return self.root / (name + SUFFIX)
        if (
            len(name) > MAX_NAME
            or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES
            or not _NAME.fullmatch(name)
            or _RESERVED.fullmatch(name)
        ):
            raise UsageError(
                f"{name!r} is no name for a session; use letters, digits, '-', '_' and '.'"
            )
        path = self.root / (name + SUFFIX)
        if path.exists() and not path.is_file():
            raise StoreError(f"{path}: it is no file; move it elsewhere, or take another name")
        return path

    def existing(self, name: str) -> Path:
        """The file of the session of that name. Raises NoSuchSession, offering the nearest."""
        if self._has(name):
            return self.root / (name + SUFFIX)
        near = difflib.get_close_matches(name, self.names(), n=1)
        offer = f"did you mean {near[0]}?" if near else "`fwlocal sessions` lists them"
        raise NoSuchSession(f"there is no session {name}; {offer}")

    def _has(self, name: str) -> bool:
        file = name + SUFFIX
        return Path(file).name == file and _is_session(self.root / file)

    def names(self) -> list[str]:
        """All of them, the one used last first. Raises StoreError."""
        now = time.time()
        used = sorted(self._files(), key=lambda path: _age(path, now))
        return [path.name.removesuffix(SUFFIX) for path in used]

    def newest(self) -> str:
        """The one used last. Raises NoSuchSession."""
        names = self.names()
        if not names:
            raise NoSuchSession("there is no session to go on with yet; `fwlocal chat` begins one")
        return names[0]

    def free_paths(self, words: str, today: date) -> Iterator[Path]:
        """Files for a new session that begins with ``words``: none is there, though one may be by
        the time that it is made."""
        found = "-".join(re.findall(r"[^\W_]+", words.lower())[:_WORDS_IN_NAME])
        name = f"{today.isoformat()}-{found[:_LONGEST_WORDS].rstrip('-') or 'chat'}"
        for number in count(1):
            path = self.path(name if number == 1 else f"{name}-{number}")
            if not path.exists():
                yield path

    def remove(self, name: str) -> None:
        """Remove a session for good. Raises NoSuchSession, Busy while a chat has it, StoreError."""
        path = self.existing(name)
        try:
            lock = locked(path, "removing it")
            try:
                path.unlink()
                with contextlib.suppress(FileNotFoundError):
                    damaged_path(path).unlink()
            finally:
                lock.release()
        except OSError as error:
            raise StoreError(f"{path}: cannot be removed ({error.strerror or error})") from error

    def _files(self) -> list[Path]:
        try:
            return [p for p in self.root.iterdir() if _is_session(p)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be read ({error.strerror or error})") from error


def last_used(path: Path) -> float:
    """When a session was last written to, in seconds since 1970; 0 when it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_session(path: Path) -> bool:
    if path.suffix != SUFFIX or path.name.startswith("."):
        return False
    try:
        path.name.encode()  # a name that is no text cannot be typed
        return path.is_file()
    except (OSError, ValueError):
        return False


def _age(path: Path, now: float) -> tuple[bool, float, str]:
    """A sort key, the newest first. What was used in the future was used before the clock was put
    back: longer ago than all that is used since."""
    used = last_used(path)
    return used > now + CLOCK_SLACK_S, -used, path.name
