"""How many cores there are to compute with.

On hybrid processors a slow core holds up the fast ones at the end of every operation, and the
second hardware thread of a core adds nothing, so that the best number of threads is the number of
fast physical cores that this process may use.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from fwlocal.hardware.cgroup import ControlGroups, read_number

SYS_DEVICES = Path("/sys/devices")
# Cores of one kind differ a little in their clocks, and so in their capacity.
_SAME_KIND = 0.8


def default_threads() -> int:
    """The number of threads to compute with when none is asked for."""
    return performance_cores()


def performance_cores(devices: Path = SYS_DEVICES, groups: ControlGroups | None = None) -> int:
    """Fast physical cores that this process may use; where all are alike, ``physical_cores``.

    Fast are: on Linux, the CPUs of Intel's ``cpu_core`` unit, or those of (nearly) the highest
    ``cpu_capacity``, as ARM has it; on macOS those of performance level 0; on Windows those of the
    highest efficiency class.
    """
    if sys.platform != "linux":
        fast = _macos_cores() if sys.platform == "darwin" else _windows_cores()
        return _limited(min(fast or physical_cores(), physical_cores()), groups)
    allowed = os.sched_getaffinity(0)
    fast_cpus = fast_linux_cpus(devices) & allowed or allowed
    cores = count_cores(fast_cpus, devices) or min(physical_cores(groups), len(fast_cpus))
    return _limited(cores, groups)


def physical_cores(groups: ControlGroups | None = None) -> int:
    """Cores of all kinds that this process may use, hyper-threads not counted."""
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux: taskset, cpusets
        cores = min(cores, len(os.sched_getaffinity(0)))
    return _limited(cores, groups)


def logical_cores() -> int:
    """Hardware threads of the machine."""
    return os.cpu_count() or 1


def fast_linux_cpus(devices: Path = SYS_DEVICES) -> set[int]:
    """The numbers of the CPUs (hardware threads) of fast cores; none where all are alike."""
    intel = _cpu_list(devices / "cpu_core/cpus")
    if intel:
        return intel
    capacities = {}
    for folder in (devices / "system/cpu").glob("cpu[0-9]*"):
        capacity = read_number(folder / "cpu_capacity")
        if capacity is not None:
            capacities[int(folder.name[3:])] = capacity
    least = _SAME_KIND * max(capacities.values(), default=0)
    return {cpu for cpu, capacity in capacities.items() if capacity >= least}


def count_cores(cpus: set[int], devices: Path = SYS_DEVICES) -> int:
    """How many physical cores ``cpus`` are threads of; 0 where the kernel does not tell."""
    topology = [devices / f"system/cpu/cpu{cpu}/topology" for cpu in cpus]
    siblings = [
        _cpu_list(folder / "core_cpus_list") or _cpu_list(folder / "thread_siblings_list")
        for folder in topology
    ]
    return len(set(map(frozenset, siblings))) if all(siblings) else 0


def quota_cores(groups: ControlGroups) -> int | None:
    """Whole cores of the CPU time that the tightest of the groups grants; None for no limit."""
    quotas = [quota for folder in groups.folders("cpu") for quota in _quotas(folder)]
    return max(1, int(min(quotas))) if quotas else None


def _limited(cores: int, groups: ControlGroups | None) -> int:
    return max(1, min(cores, quota_cores(groups or ControlGroups()) or cores))


def _quotas(folder: Path) -> Iterator[float]:
    """A group's quota of CPU time per period, of cgroup v2 and of v1 (where -1 is none)."""
    try:
        words = (folder / "cpu.max").read_text(encoding="ascii").split()
        quota, period = (int(word) for word in words)
    except (OSError, ValueError):  # missing, or "max"
        quota = read_number(folder / "cpu.cfs_quota_us") or 0
        period = read_number(folder / "cpu.cfs_period_us") or 0
    if quota > 0 and period > 0:
        yield quota / period


def _cpu_list(path: Path) -> set[int]:
    """The CPUs of a list as the kernel writes it, ``0-3,8``; none if it cannot be read."""
    try:
        spans = [part.split("-") for part in path.read_text(encoding="ascii").strip().split(",")]
        return {cpu for span in spans for cpu in range(int(span[0]), int(span[-1]) + 1)}
    except (OSError, ValueError):
        return set()


def _macos_cores() -> int | None:
    """``sysctl hw.perflevel0.physicalcpu``; None on Intel's, which are alike."""
    sysctl = getattr(ctypes.CDLL(None), "sysctlbyname", None)
    value, size = ctypes.c_int32(0), ctypes.c_size_t(4)
    name = b"hw.perflevel0.physicalcpu"
    if sysctl is None or sysctl(name, ctypes.byref(value), ctypes.byref(size), None, 0):
        return None
    return value.value or None


def _windows_cores() -> int | None:
    """The cores of the highest efficiency class (GetLogicalProcessorInformationEx)."""
    kernel32 = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    if kernel32 is None:
        return None
    size = ctypes.c_uint32(0)
    kernel32.GetLogicalProcessorInformationEx(0, None, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    if not kernel32.GetLogicalProcessorInformationEx(0, buffer, ctypes.byref(size)):
        return None
    return fastest_of(buffer.raw[: size.value])


def fastest_of(records: bytes) -> int | None:
    """How many of Windows' RelationProcessorCore records, one per physical core, have the highest
    EfficiencyClass: the byte after Relationship and Size (uint32 each) and Flags (a byte)."""
    classes, offset = [], 0
    while offset + 10 <= len(records):
        _, size, _, efficiency_class = struct.unpack_from("<IIBB", records, offset)
        classes.append(efficiency_class)
        if size == 0:
            return None
        offset += size
    return classes.count(max(classes)) if classes else None
