"""Fast cores, also on hybrid processors and within a quota."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal import hardware
from fwlocal.hardware.cores import count_cores, fast_linux_cpus, fastest_of, quota_cores
from tests.hardware.groups import groups


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "400000 100000"}, 4),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "250000 100000"}, 2),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ({"c/cpu.max": "100000 100000"}, None),
        ({"a/b/cpu.max": "0 0"}, None),
    ],
)
def test_a_quota_of_cpu_time(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    assert quota_cores(groups(tmp_path, "0::/a/b", files)) == cores


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    files = {
        "cpu/cpu.cfs_quota_us": -1,
        "cpu/cpu.cfs_period_us": 100000,
        "cpu/me/cpu.cfs_quota_us": 300000,
        "cpu/me/cpu.cfs_period_us": 100000,
    }

    assert quota_cores(groups(tmp_path, "3:cpuacct,cpu:/me", files)) == 3


def test_a_quota_bounds_the_threads(tmp_path: Path) -> None:
    one = groups(tmp_path, "0::/", {"cpu.max": "100000 100000"})

    assert hardware.performance_cores(groups=one) == 1
    assert hardware.physical_cores(one) == 1


def cpus(tmp_path: Path, siblings: Mapping[int, str], capacity: Mapping[int, int]) -> Path:
    """A /sys/devices of these CPUs."""
    for cpu, text in siblings.items():
        folder = tmp_path / f"system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "core_cpus_list").write_text(f"{text}\n")
        if cpu in capacity:
            (folder.parent / "cpu_capacity").write_text(f"{capacity[cpu]}\n")
    (tmp_path / "system/cpu/cpufreq").mkdir(parents=True)
    return tmp_path


def test_intels_performance_cores(tmp_path: Path) -> None:
    threads = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4", 5: "5", 6: "6"}
    folder = cpus(tmp_path, threads, {})
    (folder / "cpu_core").mkdir()
    (folder / "cpu_core/cpus").write_text("0-3\n")

    assert fast_linux_cpus(folder) == {0, 1, 2, 3}
    assert count_cores({0, 1, 2, 3}, folder) == 2
    assert count_cores({1, 2}, folder) == 2
    assert count_cores(set(threads), folder) == 5


@pytest.mark.parametrize(
    ("capacities", "fast"),
    [
        ([1024, 1024, 400, 400], {0, 1}),
        ([300, 300, 900, 900, 1024], {2, 3, 4}),
        ([1024, 1024], {0, 1}),
        ([], set()),
    ],
)
def test_arms_big_cores(tmp_path: Path, capacities: list[int], fast: set[int]) -> None:
    each = dict(enumerate(capacities))

    assert fast_linux_cpus(cpus(tmp_path, {cpu: str(cpu) for cpu in each}, each)) == fast


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_fast_cores_that_the_process_may_not_use(tmp_path: Path) -> None:
    mine = sorted(os.sched_getaffinity(0))
    folder = cpus(tmp_path, {cpu: str(cpu) for cpu in mine}, {})
    (folder / "cpu_core").mkdir()
    unlimited = groups(tmp_path, "", {})

    for list_of_fast, cores in ((str(mine[0]), 1), ("9000-9007", len(mine)), ("x", len(mine))):
        (folder / "cpu_core/cpus").write_text(list_of_fast)
        assert hardware.performance_cores(folder, unlimited) == cores


def test_a_kernel_that_tells_no_topology(tmp_path: Path) -> None:
    assert count_cores({0, 1}, tmp_path) == 0
    unlimited = groups(tmp_path, "", {})
    assert hardware.performance_cores(tmp_path, unlimited) == hardware.physical_cores(unlimited)


def test_windows_efficiency_classes() -> None:
    def core(efficiency_class: int, size: int = 48) -> bytes:
        return struct.pack("<IIBB", 0, size, 0, efficiency_class).ljust(48, b"\0")

    assert fastest_of(core(1) * 6 + core(0) * 8) == 6
    assert fastest_of(core(0) * 4) == 4
    assert fastest_of(b"") is None
    assert fastest_of(core(0, size=0)) is None


@given(st.binary(max_size=200))
def test_any_bytes_as_efficiency_classes(records: bytes) -> None:
    count = fastest_of(records)

    assert count is None or 1 <= count <= len(records)
