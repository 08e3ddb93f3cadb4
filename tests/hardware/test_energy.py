"""Which counters of energy are read, and what they add up to, also where they begin anew."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.hardware.energy import Counter, Meter, counters

NO_GPU: list[str] = []


class FakeNvml:
    """NVML with GPUs by their PCI addresses; one without a count is older than Volta."""

    def __init__(self, gpus: dict[str, int | None], *, works: bool = True) -> None:
        self._addresses, self.millijoules = list(gpus), list(gpus.values())
        self._works = works

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0 if self._works else 9

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        ctypes.cast(count, ctypes.POINTER(ctypes.c_uint))[0] = len(self._addresses)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = 100 + index.value
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, address: bytes, handle: Any) -> int:  # noqa: N802
        if address.decode() not in self._addresses:
            return 6
        index = self._addresses.index(address.decode())
        return self.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), handle)

    def nvmlDeviceGetIndex(self, handle: Any, index: Any) -> int:  # noqa: N802
        ctypes.cast(index, ctypes.POINTER(ctypes.c_uint))[0] = handle.value - 100
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, value: Any) -> int:  # noqa: N802
        found = self.millijoules[handle.value - 100]
        if found is None:
            return 3
        ctypes.cast(value, ctypes.POINTER(ctypes.c_ulonglong))[0] = found
        return 0


def zone(root: Path, folder: str, name: str, microjoules: int | None) -> Path:
    """A zone as the kernel shows it; one without a number cannot be read."""
    path = root / folder
    path.mkdir()
    (path / "name").write_text(f"{name}\n", encoding="ascii")
    (path / "max_energy_range_uj").write_text("262143328850\n", encoding="ascii")
    if microjoules is not None:
        (path / "energy_uj").write_text(f"{microjoules}\n", encoding="ascii")
    return path / "energy_uj"


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages, the parts of one, the whole machine, and the first package once more."""
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 3_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 20_000_000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000)
    return tmp_path


def test_each_package_counts_once(powercap: Path) -> None:
    found = counters(NO_GPU, powercap=powercap)

    assert [counter.name for counter in found] == ["RAPL package-0", "RAPL package-1"]
    assert [counter.read_j() for counter in found] == [5, 7]
    assert found[0].range_j == 262143.32885


def test_a_counter_that_only_root_may_read_is_none(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", None)

    assert counters(NO_GPU, powercap=tmp_path) == []
    assert counters(NO_GPU, powercap=tmp_path / "missing") == []


def test_gpus_that_count_energy(tmp_path: Path) -> None:
    nvml = FakeNvml({"0000:01:00.0": 1500, "0000:02:00.0": None, "0000:03:00.0": 2500})

    found = counters(powercap=tmp_path, nvml=lambda: nvml)

    assert [counter.name for counter in found] == ["NVML GPU 0", "NVML GPU 2"]
    assert [counter.read_j() for counter in found] == [1.5, 2.5]


def test_only_the_gpus_that_are_meant(tmp_path: Path) -> None:
    nvml = FakeNvml({"0000:01:00.0": 1500, "0000:02:00.0": 2500})

    found = counters(["0000:02:00.0", "0000:09:00.0"], powercap=tmp_path, nvml=lambda: nvml)

    assert [counter.name for counter in found] == ["NVML GPU 1"]


@pytest.mark.parametrize("nvml", [None, FakeNvml({"0000:01:00.0": 1}, works=False)])
def test_without_a_driver_there_is_no_counter(tmp_path: Path, nvml: FakeNvml | None) -> None:
    assert counters(powercap=tmp_path, nvml=lambda: nvml) == []


def test_the_counters_of_this_machine_can_be_read() -> None:
    assert all(counter.read_j() is not None for counter in counters())


def test_what_was_used_since_the_start(powercap: Path) -> None:
    nvml = FakeNvml({"0000:01:00.0": 1000})
    meter = Meter(counters(powercap=powercap, nvml=lambda: nvml))

    meter.start()
    (powercap / "intel-rapl:1/energy_uj").write_text("9000000\n", encoding="ascii")
    nvml.millijoules[0] = 1250

    assert meter.used_j() == pytest.approx(2.25)
    assert meter.source == "RAPL package-0 + RAPL package-1 + NVML GPU 0"


def test_a_meter_without_counters_tells_nothing() -> None:
    meter = Meter([])
    meter.start()

    assert (meter.used_j(), meter.source) == (None, "")


def test_a_counter_that_is_gone_leaves_no_half_sum(powercap: Path) -> None:
    meter = Meter(counters(NO_GPU, powercap=powercap))
    meter.start()
    (powercap / "intel-rapl:1/energy_uj").unlink()

    assert meter.used_j() is None


@given(
    range_j=st.integers(10, 10**6),
    start=st.integers(0, 10**6),
    used=st.integers(0, 10**6),
)
def test_a_counter_that_began_anew_on_the_way(range_j: int, start: int, used: int) -> None:
    start, used = start % range_j, used % range_j
    values: Iterator[float] = iter([start, (start + used) % range_j])
    meter = Meter([Counter("RAPL package-0", lambda: next(values), float(range_j))])

    meter.start()

    assert meter.used_j() == used


def test_one_that_never_begins_anew_was_reset() -> None:
    values = iter([5.0, 1.0])
    meter = Meter([Counter("NVML GPU 0", lambda: next(values))])
    meter.start()

    assert meter.used_j() is None
