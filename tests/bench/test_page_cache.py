"""Files put out of the system's memory and read into it again, where a system can be told."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from fwlocal.bench import page_cache
from fwlocal.errors import Interrupted
from fwlocal.interrupts import Interrupt

SIZE = 3 * 2**20 + 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * SIZE)
    return path


def test_out_of_memory_and_in_again(path: Path) -> None:
    if not page_cache.put_out([path]):
        pytest.skip("this system, or this file system, cannot be told")

    assert page_cache.resident_share(path) == 0
    page_cache.bring_in([path], Interrupt())
    assert page_cache.resident_share(path) == 1


def test_a_file_that_others_hold_in_memory_is_not_out(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ) as held:
        assert held[:] == b"x" * SIZE  # every page of it
        assert not page_cache.put_out([path])


def test_a_file_that_is_not_there_is_not_put_out(path: Path) -> None:
    missing = path.with_name("missing.bin")

    assert not page_cache.put_out([missing, path])
    assert page_cache.resident_share(missing) is None
    page_cache.bring_in([missing], Interrupt())


def test_an_empty_file_is_all_there(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()

    assert page_cache.resident_share(path) in (1, None)


def test_reading_can_be_stopped(path: Path) -> None:
    if not page_cache.put_out([path]):
        pytest.skip("this system, or this file system, cannot be told")
    interrupt = Interrupt()
    interrupt.set()

    with pytest.raises(Interrupted):
        page_cache.bring_in([path], interrupt)
