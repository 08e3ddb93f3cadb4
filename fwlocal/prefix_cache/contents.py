"""What the cache holds, for its owner to look at and to clear; here errors are told.

The prompts themselves are not shown: entries hold token ids, which may be private.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fwlocal.errors import ModelNotFound, StoreError
from fwlocal.files import sized
from fwlocal.locks import held
from fwlocal.prefix_cache.cache import LOCK_NAME, SPARE_BYTES
from fwlocal.prefix_cache.folder import Stored, leaving, remove, stored_files
from fwlocal.prefix_cache.headers import read_entry

_ELSEWHERE = "set FWLOCAL_CACHE to another one"


@dataclass(frozen=True)
class Described:
    """An entry; ``last_used`` in UTC, as ISO 8601, "" where the clock was nowhere."""

    model: str
    n_tokens: int
    size_bytes: int
    last_used: str
    path: Path

    def as_data(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "model": self.model,
            "tokens": self.n_tokens,
            "size_bytes": self.size_bytes,
            "last_used": self.last_used or None,
            "path": str(self.path),
        }


def described(root: Path) -> list[Described]:
    """All entries, the one used last first; what is damaged is removed. Raises StoreError."""
    found = []
    for file in sorted(_files(root), key=lambda one: (-one.used_ns, one.name)):
        header = None if file.is_growing else read_entry(file.path)
        if header is not None:
            used = _iso(file.used_ns)
            size = file.size_bytes
            found.append(Described(header.model, header.n_tokens, size, used, Path(file.path)))
    return found


def size_bytes(root: Path) -> int:
    """What the cache takes on the disk, with what is being written. Raises StoreError."""
    return sum(file.size_bytes for file in _files(root))


def clear(root: Path, model: str = "") -> tuple[int, int]:
    """Remove all entries, or those of a model, named as ``described`` tells it, with or without
    its level: how many, and their bytes. Raises StoreError, ModelNotFound.

    Chats and runs that go on at the same time are not disturbed; they may put new ones there.
    """
    doomed = _of_model(root, model) if model else _of_all(root)
    left = [file for file in doomed if not remove(file.path)]
    if left:
        raise StoreError(
            f"{left[0].path}: cannot be removed; end what reads it, or make its folder writable"
        )
    n_entries = sum(not file.is_growing for file in doomed)
    return n_entries, sum(file.size_bytes for file in doomed)


def trim(root: Path, bound_bytes: int) -> tuple[int, int]:
    """Have what was used longest ago leave until all is within ``bound_bytes``: how many, and their
    bytes. Raises StoreError."""
    going = leaving(_files(root), 0, bound_bytes, ())
    gone = [file for file in going if not file.is_growing and remove(file.path)]
    return len(gone), sum(file.size_bytes for file in gone)


def disk_bytes(root: Path) -> int:
    """How large the disk is that ``root`` is on, or would be; 0 where that is not known."""
    try:
        return shutil.disk_usage(_nearest(root)).total
    except OSError:
        return 0


def hindrance(root: Path) -> str:
    """Why nothing can be kept in ``root``, as far as that can be told without trying; "" where it
    can, or where nobody knows before."""
    folder = _nearest(root)
    if reason := _no_path(root):
        return f"{root} cannot be made ({reason}); {_ELSEWHERE}"
    if not folder.is_dir():
        return f"{folder} is no folder; {_ELSEWHERE}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written; make it writable, or {_ELSEWHERE}"
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return ""
    if not disk.total:  # as of /proc
        return f"{folder} is no folder of a disk; {_ELSEWHERE}"
    if disk.free >= SPARE_BYTES:
        return ""
    return (
        f"{sized(disk.free)} are free on its disk, of which {sized(SPARE_BYTES)} are left to "
        "others; make room, or set FWLOCAL_CACHE to a folder on another disk"
    )


def _nearest(root: Path) -> Path:
    """The folder itself, or the one that it would be made in."""
    return next((one for one in (root, *root.parents) if os.path.lexists(one)), root)


def _no_path(root: Path) -> str:
    """Why nothing can have that path: it is too long, or goes round in links; "" where it can."""
    try:
        os.lstat(root)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _of_all(root: Path) -> list[Stored]:
    """All files, but for what another process writes now."""
    files = _files(root)
    if any(file.is_growing for file in files):
        with contextlib.suppress(StoreError, OSError), held(root / LOCK_NAME, "clearing the cache"):
            return _files(root)
    return [file for file in files if not file.is_growing]


def _of_model(root: Path, model: str) -> list[Stored]:
    wanted = model.casefold()
    entries = described(root)
    paths = {
        str(entry.path)
        for entry in entries
        if wanted in (entry.model.casefold(), entry.model.casefold().partition(":")[0])
    }
    if not paths:
        raise ModelNotFound(_unknown(model, [entry.model for entry in entries]))
    return [file for file in _files(root) if file.path in paths]


def _unknown(model: str, models: Sequence[str]) -> str:
    near = difflib.get_close_matches(model, [*dict.fromkeys(models)], n=1)
    offer = f"did you mean {near[0]}?" if near else "`fwlocal cache list` tells what is kept"
    return f"no prompt of {model} is in the cache; {offer}"


def _files(root: Path) -> list[Stored]:
    try:
        return stored_files(root)
    except OSError as error:
        raise StoreError(
            f"{root}: cannot be read ({error.strerror or error}); make it readable, or set "
            "FWLOCAL_CACHE to another folder"
        ) from error


def _iso(moment_ns: int) -> str:
    if not moment_ns:
        return ""
    moment = datetime.fromtimestamp(moment_ns // 10**9, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
