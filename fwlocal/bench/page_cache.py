"""Whether a file is in the system's memory, and how to have it there or not: a load is timed from
a cold disk, and from memory.

Only Linux, and what is like it, can be asked (mincore(2)) and told (posix_fadvise(2)); and of a
file that is neither this user's nor writable the kernel says that all of it is there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fwlocal.errors import Interrupted
from fwlocal.interrupts import Interrupt

ALMOST = 0.01  # of a file's pages may be in memory still, or not yet
_READ_BYTES = 8 << 20


def put_out(paths: Iterable[Path]) -> bool:
    """Have the files put out of memory; False where they cannot be, or others hold them there."""
    outcomes = [_put_out(path) for path in paths]
    return all(outcomes)


def bring_in(paths: Iterable[Path], interrupt: Interrupt) -> None:
    """Read the files, where they are not in memory already. Raises Interrupted."""
    for path in paths:
        share = resident_share(path)
        if share is None or share < 1 - ALMOST:
            _read(path, interrupt)


def resident_share(path: Path) -> float | None:
    """How much of a file is in memory, from 0 to 1; None where nobody tells."""
    mincore = None if os.name == "nt" else getattr(ctypes.CDLL(None), "mincore", None)
    if mincore is None:
        return None
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _resident(mincore, file.fileno(), size) if size else 1.0
    except OSError:
        return None


def _resident(mincore: Any, descriptor: int, size: int) -> float | None:
    n_pages = -(-size // mmap.PAGESIZE)
    pages = ctypes.create_string_buffer(n_pages)
    # A private mapping may be written, which ctypes asks of a buffer whose address it tells.
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        failed = mincore(ctypes.addressof(start), size, pages)
        del start  # or the mapping could not be closed
    if failed:
        return None
    return float(np.mean(np.frombuffer(pages.raw, np.uint8) & 1))


def _put_out(path: Path) -> bool:
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:
        return False
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not on the disk yet would stay
            advise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    share = resident_share(path)
    return share is not None and share <= ALMOST


def _read(path: Path, interrupt: Interrupt) -> None:
    buffer = bytearray(_READ_BYTES)
    try:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                if interrupt.is_set():
                    raise Interrupted(exit_code=interrupt.exit_code)
    except OSError:
        return  # whoever loads it says what is wrong
