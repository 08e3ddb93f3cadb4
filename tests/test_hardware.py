"""Cores and memory, also inside a container's limits."""

from __future__ import annotations

from pathlib import Path

import psutil

from fwlocal import hardware


def test_this_machine() -> None:
    assert 1 <= hardware.physical_cores() <= hardware.logical_cores()
    ram = hardware.memory()
    assert 0 < ram.available_bytes <= ram.total_bytes <= psutil.virtual_memory().total


def test_a_container_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000000\n")
    (tmp_path / "memory.current").write_text("700000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000000\nactive_file 5\n")

    ram = hardware.memory(cgroup=tmp_path)

    assert ram.total_bytes == 1_000_000_000
    assert ram.available_bytes == 1_000_000_000 - 700_000_000 + 100_000_005


def test_no_container_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")

    assert hardware.memory(cgroup=tmp_path).total_bytes == psutil.virtual_memory().total


def test_bandwidth_is_a_plausible_figure() -> None:
    measured = hardware.memory_bandwidth(size_bytes=32 * 2**20, rounds=1)

    assert 1e8 < measured < 1e13
