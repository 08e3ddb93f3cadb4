"""The energy that this machine has used, where it counts it: in joules, since some moment.

Linux counts each processor package (RAPL, in /sys/class/powercap; most systems let only root read
it), and NVIDIA's driver each GPU since Volta (NVML). macOS tells energy only to root, through
powermetrics, and Windows not at all, so that there are no counters but NVIDIA's. Counters are of
whole devices: whatever else runs there is in them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fwlocal.hardware.cgroup import read_number

POWERCAP = Path("/sys/class/powercap")
_ZONES = "intel-rapl:*"  # AMD's too; those of intel-rapl-mmio count the same again
# In a zone's name. The parts of a package (core, uncore, dram) are in its own count or beside it,
# and "psys" is the whole machine, and so the package again.
_PACKAGE = "package"


@dataclass(frozen=True)
class Counter:
    """One device's count in joules, None when it cannot be read. ``range_j`` is where it begins at
    0 again; None for one that never does."""

    name: str
    read_j: Callable[[], float | None]
    range_j: float | None = None


class Meter:
    """Several counters as one. From ``start`` to ``used_j`` none may begin anew twice: of a package
    that takes at least a quarter of an hour."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = tuple(counters)
        self._before: list[float | None] = []

    @property
    def source(self) -> str:
        """Which counters these are, such as "RAPL package-0 + NVML GPU 0"; "" for none."""
        return " + ".join(counter.name for counter in self._counters)

    def start(self) -> None:
        """Count from now on."""
        self._before = [counter.read_j() for counter in self._counters]

    def used_j(self) -> float | None:
        """Joules since ``start``; None without counters, or where one could not be read."""
        spent = [
            _spent(before, counter.read_j(), counter.range_j)
            for before, counter in zip(self._before, self._counters, strict=True)
        ]
        known = [joules for joules in spent if joules is not None]
        return sum(known) if known and len(known) == len(spent) else None


def counters(
    gpus: Sequence[str] | None = None,
    *,
    powercap: Path = POWERCAP,
    nvml: Callable[[], Any] | None = None,
) -> list[Counter]:
    """Those that can be read here: of all packages, and of the NVIDIA ``gpus``, by their PCI
    addresses, or of all. ``nvml`` gives NVML's library, or None."""
    found = list(_packages(powercap))
    if gpus is None or gpus:
        found += _gpus((nvml or _load_nvml)(), gpus)
    return [counter for counter in found if counter.read_j() is not None]


def _spent(before: float | None, after: float | None, range_j: float | None) -> float | None:
    if before is None or after is None:
        return None
    if after >= before:
        return after - before
    return None if range_j is None else after - before + range_j


def _packages(powercap: Path) -> Iterator[Counter]:
    """One for each processor package (the kernel's Documentation/power/powercap/powercap.rst)."""
    for zone in sorted(powercap.glob(_ZONES)):
        name, range_uj = _text(zone / "name"), read_number(zone / "max_energy_range_uj")
        if name.startswith(_PACKAGE):
            read = partial(_micro, zone / "energy_uj")
            yield Counter(f"RAPL {name}", read, range_uj / 1e6 if range_uj else None)


def _micro(path: Path) -> float | None:
    value = read_number(path)
    return None if value is None else value / 1e6


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _load_nvml() -> Any:
    try:
        return ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    except OSError:
        return None


def _gpus(nvml: Any, addresses: Sequence[str] | None) -> list[Counter]:
    """One for each of NVML's devices (NVIDIA's NVML API reference); none without the library."""
    if nvml is None or nvml.nvmlInit_v2() != 0:
        return []
    count = ctypes.c_uint()
    if addresses is not None:
        handles = [
            _handle(nvml.nvmlDeviceGetHandleByPciBusId_v2, address.encode())
            for address in addresses
        ]
    elif nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0:
        by_index = nvml.nvmlDeviceGetHandleByIndex_v2
        handles = [_handle(by_index, ctypes.c_uint(index)) for index in range(count.value)]
    else:
        handles = []
    there = [handle for handle in handles if handle is not None]
    return [Counter(_gpu_name(nvml, handle), partial(_milli, nvml, handle)) for handle in there]


def _handle(function: Any, key: Any) -> ctypes.c_void_p | None:
    handle = ctypes.c_void_p()
    return handle if function(key, ctypes.byref(handle)) == 0 else None


def _gpu_name(nvml: Any, handle: ctypes.c_void_p) -> str:
    index = ctypes.c_uint()
    is_known = nvml.nvmlDeviceGetIndex(handle, ctypes.byref(index)) == 0
    return f"NVML GPU {index.value}" if is_known else "NVML GPU"


def _milli(nvml: Any, handle: ctypes.c_void_p) -> float | None:
    """Millijoules since the driver was loaded, in 64 bits, which never overflow."""
    value = ctypes.c_ulonglong()
    failed = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value))
    return None if failed else value.value / 1e3
