"""The cache's folder: which of its files are ours, when each was used, and which go first.

An entry's name begins with its setting and goes on with its tokens, both hashed. Its time of use is
the file's time of change. What is in a file, this module does not know.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700  # a state tells its prompt
LATEST_NS = 1 << 62  # in the year 2116
MOST_AHEAD_NS = 60 * 10**9  # by how much another machine's clock may be fast
_ENTRY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}\.kv")
_GROWING = re.compile(r"\.[0-9a-f]{16}-[0-9a-f]{32}\.kv\.[0-9]+-[0-9a-f]{8}\.new")


@dataclass(frozen=True)
class Stored:
    """A file of the cache; ``is_growing`` while it is being written, or when its writer died."""

    path: str  # there may be thousands, and a Path takes longer to make than to look at
    size_bytes: int
    used_ns: int
    is_growing: bool = False

    @property
    def name(self) -> str:
        """The file's own name."""
        return os.path.basename(self.path)


def entry_name(key: bytes, tokens: bytes) -> str:
    """The name of the entry of these packed tokens in the setting ``key``."""
    return f"{name_start(key)}{hashlib.sha256(key + tokens).hexdigest()[:32]}.kv"


def name_start(key: bytes) -> str:
    """What the names of all entries of a setting begin with."""
    return f"{key.hex()[:16]}-"


def growing_path(entry: Path) -> Path:
    """Where an entry is written before it gets its name."""
    return entry.with_name(f".{entry.name}.{os.getpid()}-{secrets.token_hex(4)}.new")


def stored_files(root: Path) -> list[Stored]:
    """All files of the cache in the folder ``root``, in no order; none of a folder that is not
    there. Only the user's own plain files are looked at: nobody else may tell native code what to
    load. Raises OSError."""
    found = []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                is_entry = _ENTRY.fullmatch(entry.name) is not None
                if is_entry or _GROWING.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        facts = os.lstat(entry.path)
                        if stat.S_ISREG(facts.st_mode) and _is_own(facts):
                            size, used = facts.st_size, _used_ns(facts)
                            found.append(Stored(entry.path, size, used, not is_entry))
    except FileNotFoundError:
        return []
    return found


def _used_ns(facts: os.stat_result) -> int:
    """A time of use that can be noted for another file too; else it was used longest ago."""
    return facts.st_mtime_ns if 0 < facts.st_mtime_ns < LATEST_NS else 0


def _is_own(facts: os.stat_result) -> bool:
    return os.name != "posix" or facts.st_uid == os.getuid()


def make_folder(root: Path) -> None:
    """Make the folder, for its user alone. Raises OSError."""
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    if os.name == "posix" and root.stat().st_mode & 0o077:
        root.chmod(PRIVATE_FOLDER)


def next_use(files: Sequence[Stored], now_ns: int) -> int:
    """The time of use to note now, in nanoseconds since 1970: later than all others, also where
    the clock was put back, so that the order of use outlives its jumps. A clock that is far off
    does not count."""
    return max([now_ns if now_ns < LATEST_NS else 1, 1, *(file.used_ns + 1 for file in files)])


def in_time(files: Sequence[Stored], now_ns: int) -> list[Stored]:
    """The files, less the mark that a clock left which was fast, or was put back since: what was
    used in the future is noted as used now, after all others and in the order that it had."""
    if not 0 < now_ns < LATEST_NS:
        return [*files]
    ahead = [file for file in files if file.used_ns > now_ns + MOST_AHEAD_NS]
    settled = [file for file in files if file.used_ns <= now_ns + MOST_AHEAD_NS]
    for file in sorted(ahead, key=lambda one: (one.used_ns, one.name)):
        settled.append(replace(file, used_ns=next_use(settled, now_ns)))
        note_use(file.path, settled[-1].used_ns)
    return settled


def note_use(path: Path | str, used_ns: int) -> None:
    """Note it, as well as the file system lets us."""
    with contextlib.suppress(OSError, OverflowError):
        os.utime(path, ns=(used_ns, used_ns))


def remove(path: Path | str) -> bool:
    """Remove a file; whether it is gone now. One that another process reads stays on Windows."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def leaving(
    files: Sequence[Stored], need_bytes: int, bound_bytes: int, first: Collection[str]
) -> list[Stored]:
    """Which files must leave so that all of them, with ``need_bytes`` more, are within the bound:
    those of ``first``, then those used longest ago."""
    order = sorted(files, key=lambda one: (one.path not in first, one.used_ns, one.name))
    over = sum(file.size_bytes for file in files) + need_bytes - bound_bytes
    gone = []
    for file in order:
        if over <= 0:
            break
        gone.append(file)
        over -= file.size_bytes
    return gone
