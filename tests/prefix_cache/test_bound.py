"""What leaves when there is no more room, and that the bound holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.prefix_cache.folder import LATEST_NS, entry_name, growing_path, stored_files
from fwlocal.prefix_cache.form import packed_tokens
from tests.prefix_cache.kept import SETTING, Machine

TEXT = list(range(1000, 2000))
OTHER = list(range(5000, 5300))


def documents(count: int) -> list[list[int]]:
    """Prompts that have nothing in common."""
    return [[1000 * number + i for i in range(400)] for number in range(1, count + 1)]


def test_what_was_used_longest_ago_leaves_first(root: Path) -> None:
    first, second, third, fourth = documents(4)
    machine = Machine(root, bound_bytes=3 * 7000)
    for document in (first, second, third):
        machine.put(document)
    assert machine.common(first) == 399

    assert machine.put(fourth) == "written"

    assert machine.find(second) is None
    assert all(machine.find(document) for document in (first, third, fourth))


JUMPS = [-1e6, -100.0, 0.0, 100.0, 1e9, 9e9]


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_clock_that_jumps_does_not_change_the_order(root: Path, jump_s: float) -> None:
    first, second, third, fourth, fifth = documents(5)
    machine = Machine(root, bound_bytes=3 * 7000)
    machine.put(first)
    machine.put(second)
    machine.now_s += jump_s
    machine.put(third)
    assert machine.common(first) == 399
    machine.now_s -= jump_s

    machine.put(fourth)
    assert machine.find(second) is None
    machine.put(fifth)
    assert machine.find(third) is None
    assert machine.common(first) == 399


@pytest.mark.parametrize("odd_s", [0.0, -1e9, 1e10])
def test_a_file_of_no_sound_time_leaves_first_and_spoils_no_order(root: Path, odd_s: float) -> None:
    first, second, third, fourth, fifth = documents(5)
    machine = Machine(root, bound_bytes=3 * 7000)
    machine.put(first)
    machine.put(second)
    machine.put(third)
    os.utime(root / entry_name(SETTING.key, packed_tokens(third)), (odd_s, odd_s))
    assert machine.common(first) == 399

    machine.put(fourth)
    assert machine.find(third) is None
    machine.put(fifth)
    assert machine.find(second) is None
    assert machine.common(first) == 399


@pytest.mark.parametrize("future_ns", [10**18, LATEST_NS - 2])
def test_a_time_in_the_future_becomes_now(root: Path, future_ns: int) -> None:
    first, second, third, fourth = documents(4)
    machine = Machine(root, bound_bytes=3 * 7000)
    machine.put(first)
    machine.put(second)
    path = root / entry_name(SETTING.key, packed_tokens(first))
    os.utime(path, ns=(future_ns, future_ns))

    assert machine.common(first) == 399
    assert path.stat().st_mtime <= machine.now_s + 1

    os.utime(path, ns=(future_ns, future_ns))
    assert machine.common(second) == 399
    assert machine.put(third) == "written"
    assert all(entry.stat().st_mtime <= machine.now_s + 1 for entry in machine.entries)
    assert machine.put(fourth) == "written"
    assert machine.find(first) is None
    assert all(machine.find(document) for document in (second, third, fourth))


def test_one_that_is_larger_than_the_bound_moves_nobody(root: Path) -> None:
    machine = Machine(root, bound_bytes=10_000)
    machine.put(TEXT, size_bytes=3000)

    assert machine.put(OTHER, size_bytes=9000) == "too large"
    assert machine.common(TEXT) == 999


def test_a_bound_of_nothing_turns_it_off(root: Path, machine: Machine) -> None:
    machine.put(TEXT)
    off = Machine(root, bound_bytes=0)

    assert off.put(OTHER) == "off"
    assert off.find(TEXT) is None


def test_nothing_is_kept_of_nothing(machine: Machine) -> None:
    assert machine.cache.put(SETTING, TEXT, b"", 1.0) == "off"
    assert machine.cache.put(SETTING, [], b"state", 1.0) == "off"
    assert not machine.cache.root.exists()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 40_000)), max_size=12))
def test_the_bound_holds_whatever_is_kept(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]]
) -> None:
    machine = Machine(tmp_path_factory.mktemp("bound"), bound_bytes=60_000)
    known = documents(9)
    for number, size_bytes in sizes:
        outcome = machine.put(known[number], size_bytes=size_bytes)

        assert outcome in ("written", "known")
        assert sum(path.stat().st_size for path in machine.entries) <= 60_000
        assert machine.common(known[number]) == 399


def test_what_a_killed_writer_left_is_removed_and_counts_until_then(root: Path) -> None:
    first, second, third = documents(3)
    machine = Machine(root, bound_bytes=2 * 7000)
    machine.put(first)
    left = growing_path(root / entry_name(SETTING.key, packed_tokens(second)))
    left.write_bytes(bytes(5000))
    assert sum(file.size_bytes for file in stored_files(root)) < 2 * 7000

    assert machine.put(third) == "written"

    assert not left.exists()
    assert machine.common(first) == 399
