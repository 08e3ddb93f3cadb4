"""How fast this machine reads its memory: measured once, then remembered for a month.

Decoding reads all weights for every token, so this bounds its speed. What a GPU's memory does is
not known here.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from fwlocal.files import user_cache, write_atomically
from fwlocal.hardware.cores import performance_cores

KEPT_S = 30 * 24 * 3600
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class MeasuredBandwidth:
    """A measured figure; ``measured_at`` is in seconds since 1970."""

    bytes_per_s: float
    measured_at: float


@dataclass(frozen=True)
class _Machine:
    """What a figure belongs to."""

    cpu: str
    cores: int
    ram_bytes: int


def memory_bandwidth(size_bytes: int = 256 * 2**20, rounds: int = 3) -> float:
    """Bytes per second that all fast cores together read from memory.

    The best of ``rounds`` passes over ``size_bytes``, far more than the caches hold, by BLAS dot
    products of a vector with itself, one slice per core.
    """
    import numpy as np

    cores = performance_cores()
    count = max(1, size_bytes // 4 // cores)
    with ThreadPoolExecutor(cores) as pool:
        # Made by the pool: memory lies near the core that writes it first.
        slices = list(pool.map(lambda _: np.ones(count, dtype=np.float32), range(cores)))
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            list(pool.map(lambda part: float(np.dot(part, part)), slices))
            times.append(time.perf_counter() - start)
    return 4 * count * cores / min(times)


def cached_memory_bandwidth(path: Path | None = None) -> float:
    """The bytes per second of ``known_bandwidth``."""
    return known_bandwidth(path).bytes_per_s


def known_bandwidth(
    path: Path | None = None,
    *,
    measure: Callable[[], float] = memory_bandwidth,
    now: Callable[[], float] = time.time,
) -> MeasuredBandwidth:
    """The figure in the file at ``path`` (else in the user's cache folder), if it is this machine's
    and no older than 30 days; else one measured now, in about half a second, and put there.

    A file that cannot be read, makes no sense or comes from the future is one that is not there;
    one that cannot be written is done without.
    """
    path = _cache_file() if path is None else path
    here = _this_machine()
    known = _read(path, here)
    if known is not None and 0 <= now() - known.measured_at <= KEPT_S:
        return known
    measured = MeasuredBandwidth(measure(), now())
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**asdict(here), **asdict(measured)}) + "\n")
    return measured


def _read(path: Path, here: _Machine) -> MeasuredBandwidth | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or any(data.get(k) != v for k, v in asdict(here).items()):
        return None
    found = MeasuredBandwidth(_figure(data, "bytes_per_s"), _figure(data, "measured_at"))
    return found if found.bytes_per_s > 0 else None


def _figure(data: Mapping[str, object], key: str) -> float:
    """A finite number of at least 0, or 0 for whatever else is there."""
    value = data.get(key)
    if not isinstance(value, float) or not math.isfinite(value):
        return 0.0
    return max(0.0, value)


def _this_machine() -> _Machine:
    import psutil

    return _Machine(cpu_model(), performance_cores(), psutil.virtual_memory().total)


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name: the kernel's on Linux, else what Python knows of it."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _cache_file() -> Path:
    return user_cache() / "bandwidth.json"
