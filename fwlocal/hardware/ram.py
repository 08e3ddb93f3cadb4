"""The RAM of this machine, or what a container may use of it. Swap is not memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal.hardware.cgroup import ControlGroups, read_number, read_numbers

# The kernel's files for a limit and for what is used of it. Above memory.high a group is slowed
# down until it is of no use, so that is a limit, too.
_LIMITS = {
    "memory.max": "memory.current",
    "memory.high": "memory.current",
    "memory.limit_in_bytes": "memory.usage_in_bytes",
}
_CACHE = ("inactive_file", "active_file")


@dataclass(frozen=True)
class Memory:
    """RAM in bytes; a container's limit counts where it is lower than the machine's."""

    available_bytes: int
    total_bytes: int


def memory(groups: ControlGroups | None = None) -> Memory:
    """RAM now, within the limits of the control groups that this process is in."""
    import psutil

    ram = psutil.virtual_memory()
    return within(Memory(ram.available, ram.total), groups or ControlGroups())


def within(ram: Memory, groups: ControlGroups) -> Memory:
    """``ram`` as the tightest of the groups leave it."""
    available, total = ram.available_bytes, ram.total_bytes
    for limit, used in _limits(groups):
        # v1 writes "no limit" as a number beyond all memory.
        available, total = min(available, max(0, limit - used)), min(total, limit)
    return Memory(available, total)


def _limits(groups: ControlGroups) -> Iterator[tuple[int, int]]:
    """Each group's limit and what of it is in use, in bytes."""
    for folder in groups.folders("memory"):
        for limit_file, used_file in _LIMITS.items():
            limit = read_number(folder / limit_file)
            if limit is not None:
                used = read_number(folder / used_file) or 0
                yield limit, max(0, used - _cache_bytes(folder))


def _cache_bytes(folder: Path) -> int:
    """The page cache: it counts as used in a control group, but gives way."""
    stat = read_numbers(folder / "memory.stat")
    # v1 counts the groups below only in total_*; its usage counts them always.
    return sum(stat.get(f"total_{key}", stat.get(key, 0)) for key in _CACHE)
