"""How files are written, hashed and complained about: whole, synced, and in one line.

Nothing here knows what is in a file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from fwlocal.errors import DoesNotFit, FwlocalError, StoreError

REMEDY = "make it writable, or set {} to another folder"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
HOME = "FWLOCAL_HOME"  # in the environment: a folder in place of the user's own for models
CACHE = "FWLOCAL_CACHE"  # ... and for what can be had again
_BLOCK_BYTES = 8 << 20


def user_cache() -> Path:
    """Where what can be had again is kept: the user's cache folder, or what FWLOCAL_CACHE names."""
    import platformdirs

    named = os.environ.get(CACHE)
    return Path(named or platformdirs.user_cache_path("fwlocal", appauthor=False)).absolute()


def sync_folder(folder: Path) -> None:
    """Make a rename last; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Put ``data`` (text as UTF-8) at ``path``, so that every reader sees all of it or what was
    there before, and so that it outlives a crash.

    Raises OSError; nothing is left behind then.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def partial_path(target: Path) -> Path:
    """Where a file grows until it is whole and gets its name."""
    return target.with_name(f".{target.name}.partial")


def place(source: Path, target: Path, *, copy: bool = False) -> None:
    """Make ``target`` a second name of the bytes at ``source`` (a hard link), or, where the disk
    allows none or a ``copy`` is asked for, a copy of them, synced.

    Raises OSError; FileExistsError if ``target`` is there.
    """
    try:
        if not copy:
            os.link(source, target)
            return
    except FileExistsError:
        raise
    except OSError:  # another disk, or one without links
        pass
    with source.open("rb") as data, target.open("xb") as file:
        shutil.copyfileobj(data, file, _BLOCK_BYTES)
        file.flush()
        os.fsync(file.fileno())


def sha256_of(path: Path, on_progress: Callable[[float], None] | None = None) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits.

    ``on_progress`` is told the fraction done, up to 1. Memory: 8 MiB. Raises OSError.
    """
    digest, done = hashlib.sha256(), 0
    memory = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        while count := file.readinto(memory):
            digest.update(memory[:count])
            done += count
            if on_progress is not None:
                on_progress(min(1.0, done / total) if total else 1.0)
    return digest.hexdigest()


def sized(size_bytes: float) -> str:
    """A size for people, in powers of 1000: ``512 B``, ``93 MB``, ``12.3 GB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale * 0.9995:
            return f"{size_bytes / scale:.{1 if unit == 'GB' else 0}f} {unit}"
    return f"{size_bytes:.0f} B"


def allocated_bytes(path: Path) -> int:
    """What a growing file takes on the disk: with holes, less than its length; gone, nothing."""
    try:
        stat = path.stat()
    except OSError:
        return 0
    blocks = getattr(stat, "st_blocks", None)  # there are none on Windows
    return stat.st_size if blocks is None else min(stat.st_size, blocks * 512)


def check_space(folder: Path, need_bytes: int, what: str) -> None:
    """Raise DoesNotFit unless the disk of ``folder``, which need not exist yet, has room for
    ``need_bytes`` of ``what``."""
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free_bytes = shutil.disk_usage(nearest).free
    if free_bytes < need_bytes:
        raise DoesNotFit(
            f"{folder}: {what} needs {sized(need_bytes)}, and {sized(free_bytes)} are free on this "
            "disk; make room, or set FWLOCAL_HOME to a folder on another one"
        )


def remove_all(paths: Iterable[Path], variable: str = HOME) -> int:
    """Remove files, those that are gone already too; how many. Raises as ``store_error``."""
    found = list(paths)
    for path in found:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise store_error(error, path, variable) from error
    return len(found)


def store_error(error: OSError, where: object, variable: str = HOME) -> FwlocalError:
    """What to raise for a failed write at ``where``: DoesNotFit when the room is used up, else
    StoreError. ``variable`` is the one that has it written elsewhere."""
    if error.errno in NO_ROOM:
        return DoesNotFit(
            f"{where}: no room left ({error.strerror}); make room, or set {variable} to a folder "
            "on another disk"
        )
    remedy = REMEDY.format(variable)
    return StoreError(f"{where}: cannot be written ({error.strerror or error}); {remedy}")
