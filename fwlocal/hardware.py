"""What this machine has: cores, memory, its bandwidth. The one impure part of planning."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Device:
    """A device of one of llama.cpp's backends. ``kind`` is CPU, GPU, IGPU, ACCEL or META."""

    name: str
    description: str
    backend: str
    kind: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Memory:
    """RAM in bytes; a container's limit counts where it is lower than the machine's."""

    available_bytes: int
    total_bytes: int


def physical_cores() -> int:
    """Cores this process may use, hyper-threads not counted: the best number of threads."""
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux: taskset, cpusets
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, min(cores, _cgroup_cores() or cores))


def logical_cores() -> int:
    """Hardware threads of the machine."""
    return os.cpu_count() or 1


def memory(cgroup: Path = CGROUP) -> Memory:
    """RAM now, within the control group's limit (cgroup v2, or v1's memory controller)."""
    import psutil

    ram = psutil.virtual_memory()
    limit = _number(cgroup / "memory.max") or _number(cgroup / "memory/memory.limit_in_bytes")
    if limit is None or limit >= ram.total:
        return Memory(ram.available, ram.total)
    used = _number(cgroup / "memory.current") or _number(cgroup / "memory/memory.usage_in_bytes")
    # The page cache counts as used in a control group, but gives way.
    stat = _stat(cgroup / "memory.stat") or _stat(cgroup / "memory/memory.stat")
    used = (used or 0) - stat.get("inactive_file", 0) - stat.get("active_file", 0)
    return Memory(max(0, min(ram.available, limit - used)), limit)


def memory_bandwidth(size_bytes: int = 256 * 2**20, rounds: int = 3) -> float:
    """Bytes per second that all cores together read from memory; decoding is bound by it.

    The best of ``rounds`` passes over ``size_bytes``, far more than the caches hold, by BLAS dot
    products of a vector with itself, one slice per core.
    """
    import numpy as np

    cores = physical_cores()
    data = np.ones(size_bytes // 4, dtype=np.float32)
    slices = np.array_split(data, cores)
    with ThreadPoolExecutor(cores) as pool:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            list(pool.map(lambda part: float(np.dot(part, part)), slices))
            times.append(time.perf_counter() - start)
    return data.nbytes / min(times)


def _cgroup_cores(cgroup: Path = CGROUP) -> int | None:
    """Whole cores of a container's CPU quota (cgroup v2), if it has one."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # missing, or "max"
        return None


def _stat(path: Path) -> dict[str, int]:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return {key: int(value) for key, value in pairs}
    except (OSError, ValueError):
        return {}
