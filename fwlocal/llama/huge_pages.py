"""Huge pages for the weights that a load copies into memory of its own.

Each token's pass over the weights reads all of their pages, and the processor has to look up where
each one is: of 4 KiB there are hundreds of thousands. Linux has pages of 2 MiB for anonymous memory
whose owner asks before it is first touched (madvise(2), MADV_HUGEPAGE; where
/sys/kernel/mm/transparent_hugepage/enabled says "madvise"), and llama.cpp does not ask. It reports
progress for the first time between allocating and reading: that is the moment.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

MAPS = Path("/proc/self/maps")
_LEAST_BYTES = 2 << 20  # smaller ones hold no huge page
_ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux alone has it

Region = tuple[int, int]  # where it starts and ends


def anonymous(maps: Path = MAPS) -> frozenset[Region]:
    """The private writable memory of this process that is of no file, thread stacks included;
    nothing where the system does not tell."""
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (line.split(maxsplit=5) for line in lines)
    return frozenset(
        (int(start, 16), int(end, 16))
        for span, permissions, _, _, inode, *_ in found
        for start, end in [span.split("-")]
        if inode == "0" and permissions.startswith("rw") and permissions.endswith("p")
    )


class NewMemory:
    """What is allocated from here on until ``ask_once``, which asks for huge pages for it."""

    def __init__(self) -> None:
        self._before: frozenset[Region] | None = anonymous() if _ADVICE is not None else None

    def ask_once(self) -> None:
        """The first call asks; it is no matter whether the system grants it."""
        before, self._before = self._before, None
        if before is None:
            return
        for start, end in grown(before, anonymous()):
            _madvise(start, end - start)


def grown(before: frozenset[Region], now: frozenset[Region]) -> list[Region]:
    """Of the regions ``now`` the large ones that are new, or larger than they were."""
    return sorted(region for region in now - before if region[1] - region[0] >= _LEAST_BYTES)


def _madvise(start: int, length: int) -> None:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    madvise(start, length, _ADVICE)
