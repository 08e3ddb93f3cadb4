"""Whether a model's file is still what was hashed: by inode, size and time of change of each part.

A look at the folder alone; who writes a file and sets its clock back is not found out.
"""

from __future__ import annotations

from pathlib import Path

from fwlocal.errors import BadModelFile
from fwlocal.splits import parts_of

Stamps = tuple[tuple[int, int, int], ...]


def stamps_of(path: Path) -> Stamps:
    """Of the file at ``path``, and its other parts. Raises BadModelFile where one is gone."""
    return tuple(map(_stamp, parts_of(path)))


def check_unchanged(path: Path, stamps: Stamps) -> None:
    """Raise BadModelFile unless these are still its ``stamps``; () is not held against it."""
    if stamps and stamps_of(path) != stamps:
        raise BadModelFile(f"{path}: changed while it was measured; run the command again")


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        problem = error.strerror or error
        raise BadModelFile(f"{path}: cannot be read any more: {problem}") from error
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
