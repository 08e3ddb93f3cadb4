"""The peak that a stretch of work reaches, by the kernel's own count and by looking."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from fwlocal.bench.memory import PeakRss, rss_now

MIB = 2**20


class Looks:
    """A process of a size that the test sets."""

    def __init__(self) -> None:
        self.size, self.count = 100, 0

    def __call__(self) -> int:
        self.count += 1
        return self.size

    def wait_for_another(self) -> None:
        seen = self.count
        while self.count < seen + 2:  # one may have been on its way
            time.sleep(0.001)


def kernel(folder: Path, status: str) -> Path:
    """A /proc/self."""
    (folder / "clear_refs").write_text("", encoding="ascii")
    (folder / "status").write_text(status, encoding="ascii")
    return folder


def test_what_was_freed_again_is_seen() -> None:
    with PeakRss() as peak:
        before = rss_now()
        block = bytearray(64 * MIB)
        block[::4096] = b"x" * len(block[::4096])
        if sys.platform != "linux":
            time.sleep(0.1)
        del block

    assert peak.bytes is not None
    assert peak.bytes > before + 60 * MIB


def test_what_was_before_is_not() -> None:
    block = bytearray(64 * MIB)
    block[::4096] = b"x" * len(block[::4096])
    with PeakRss() as first:
        pass
    del block
    with PeakRss() as second:
        pass

    assert first.bytes is not None
    assert second.bytes is not None
    assert second.bytes < first.bytes - 30 * MIB


def test_the_kernel_is_told_to_begin_anew(tmp_path: Path) -> None:
    proc = kernel(tmp_path, "Name:\tpython\nVmHWM:\t    9720 kB\nVmRSS:\t    9000 kB\n")

    with PeakRss(proc) as peak:
        assert (proc / "clear_refs").read_text(encoding="ascii") == "5"
        kernel(tmp_path, "VmHWM:\t    20 kB\n")

    assert peak.bytes == 20 * 1024


@pytest.mark.parametrize("status", ["", "VmHWM:\n", "VmHWM: x kB\n", None])
def test_where_the_kernel_tells_nothing_it_is_looked_at(tmp_path: Path, status: str | None) -> None:
    proc = kernel(tmp_path, status) if status is not None else tmp_path
    looks = Looks()

    with PeakRss(proc, looks, every_s=0.001) as peak:
        looks.wait_for_another()
        looks.size = 500
        looks.wait_for_another()
        looks.size = 200

    assert peak.bytes == 500


def test_nobody_looks_any_more_afterwards(tmp_path: Path) -> None:
    looks = Looks()
    with PeakRss(tmp_path, looks, every_s=0.001):
        pass
    count = looks.count
    time.sleep(0.02)

    assert looks.count == count


def test_an_error_within_goes_on_its_way(tmp_path: Path) -> None:
    with pytest.raises(KeyError), PeakRss(tmp_path, Looks()) as peak:
        raise KeyError
    assert peak.bytes == 100
