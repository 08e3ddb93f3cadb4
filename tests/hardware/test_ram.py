"""RAM, also inside a container's limits."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from fwlocal import hardware
from fwlocal.hardware import Memory, machine
from fwlocal.hardware.cgroup import ControlGroups
from fwlocal.hardware.cores import quota_cores
from fwlocal.hardware.ram import within
from tests.hardware.groups import groups


def test_this_machine() -> None:
    cores = hardware.performance_cores()
    assert 1 <= cores <= hardware.physical_cores() <= hardware.logical_cores()
    assert hardware.default_threads() == cores
    ram = hardware.memory()
    assert 0 < ram.available_bytes <= ram.total_bytes <= psutil.virtual_memory().total
    assert machine([]).ram.total_bytes == ram.total_bytes


def test_a_container_limit_counts_and_its_page_cache_gives_way(tmp_path: Path) -> None:
    stat = "anon 1\ninactive_file 100\nactive_file 5\nfile 700"
    limits = {"memory.max": 1000, "memory.current": 700, "memory.stat": stat}

    inside = groups(tmp_path, "0::/", limits)

    assert within(Memory(5000, 9000), inside) == Memory(1000 - 700 + 105, 1000)
    assert within(Memory(200, 9000), inside) == Memory(200, 1000)
    assert hardware.memory(inside).total_bytes == 1000


def test_every_group_above_counts(tmp_path: Path) -> None:
    nested = groups(
        tmp_path,
        "0::/user.slice/app.slice/me.scope",
        {
            "user.slice/memory.max": 2000,
            "user.slice/memory.current": 1900,
            "user.slice/app.slice/memory.max": "max",
            "user.slice/app.slice/me.scope/memory.max": 1000,
            "user.slice/app.slice/me.scope/memory.current": 400,
            "other.slice/memory.max": 1,
        },
    )

    assert within(Memory(5000, 9000), nested) == Memory(100, 1000)


def test_where_a_group_is_slowed_down_is_a_limit(tmp_path: Path) -> None:
    slowed = {"a/memory.max": "max", "a/memory.high": 800, "a/memory.current": 300}

    assert within(Memory(5000, 9000), groups(tmp_path, "0::/a", slowed)) == Memory(500, 800)


def test_version_1_of_control_groups(tmp_path: Path) -> None:
    nested = groups(
        tmp_path,
        "9:name=systemd:/\n4:memory:/docker/me\n1:cpu,cpuacct:/\n0::/",
        {
            "memory/memory.limit_in_bytes": 9223372036854771712,
            "memory/docker/me/memory.limit_in_bytes": 1000,
            "memory/docker/me/memory.usage_in_bytes": 900,
            "memory/docker/me/memory.stat": "inactive_file 1\ntotal_inactive_file 300",
        },
    )

    assert within(Memory(5000, 9000), nested) == Memory(400, 1000)


def test_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    seen = {"memory/memory.limit_in_bytes": 1000, "memory/memory.usage_in_bytes": 100}

    inside = groups(tmp_path, "4:memory:/docker/0123", seen)

    assert within(Memory(5000, 9000), inside) == Memory(900, 1000)


@pytest.mark.parametrize("text", ["max", "", "many", "99999999"])
def test_no_limit(tmp_path: Path, text: str) -> None:
    inside = groups(tmp_path, "0::/a\nnonsense", {"a/memory.max": text})

    assert within(Memory(5000, 9000), inside) == Memory(5000, 9000)


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    nothing = ControlGroups(tmp_path / "none", tmp_path / "nothing")

    assert within(Memory(5000, 9000), nothing) == Memory(5000, 9000)
    assert quota_cores(nothing) is None
