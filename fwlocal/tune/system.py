"""What the system says of memory: its nodes, huge pages, and how much a process may lock. Where it
says nothing (Linux alone does) there is one node, and no word on the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fwlocal.hardware.huge_pages import ENABLED, huge_pages

NODES = Path("/sys/devices/system/node")


@dataclass(frozen=True)
class MemorySystem:
    """``huge_pages`` is the kernel's word on transparent ones: "always", "madvise", "never", or ""
    where there is none; ``may_lock_bytes`` None for no limit that is known."""

    n_nodes: int = 1
    huge_pages: str = ""
    may_lock_bytes: int | None = None


def memory_system(nodes: Path = NODES, enabled: Path = ENABLED) -> MemorySystem:
    """Of this machine."""
    return MemorySystem(
        n_nodes=max(1, sum(1 for _ in nodes.glob("node[0-9]*"))),
        huge_pages=huge_pages(enabled),
        may_lock_bytes=_may_lock_bytes(),
    )


def _may_lock_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft
