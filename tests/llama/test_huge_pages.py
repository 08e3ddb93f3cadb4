"""Huge pages: which memory asks for them, and that a load's weights do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fwlocal.hardware.huge_pages import ENABLED
from fwlocal.llama.huge_pages import NewMemory, anonymous, grown
from tests.tiny_llama import Shape, write_gguf

MAPS = """\
55d20ed6f000-55d210000000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000800000 r--s 00000000 fe:00 1604                       /models/a b.gguf
7f1000000000-7f1000400000 rw-p 00000000 00:00 0
7f2000000000-7f2000400000 ---p 00000000 00:00 0
7f3000000000-7f3000001000 rw-p 00000000 fe:00 77                         /lib/libllama.so
"""
WIDE = Shape(hidden_size=512, intermediate_size=4096)
# In a process of its own: malloc may take memory that was freed before, which is not new.
LOAD = """
import sys
from pathlib import Path
from fwlocal import llama
from tests.llama.test_huge_pages import asking_bytes

model = llama.Model(Path(sys.argv[1]), llama.LoadOptions(mmap=sys.argv[2] == "mapped"))
print(asking_bytes())
model.close()
"""
ROOT = Path(__file__).parents[2]

only_with_huge_pages = pytest.mark.skipif(not ENABLED.exists(), reason="no such kernel")


def test_anonymous_memory_is_private_writable_and_of_no_file(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(MAPS)

    found = anonymous(maps)

    assert found == {(0x55D20ED6F000, 0x55D210000000), (0x7F1000000000, 0x7F1000400000)}
    assert anonymous(tmp_path / "none") == frozenset()


def test_what_is_new_or_has_grown_asks_and_small_pieces_do_not() -> None:
    mib = 1 << 20
    before = frozenset({(0, 4 * mib), (8 * mib, 16 * mib)})
    now = frozenset({(0, 4 * mib), (8 * mib, 24 * mib), (32 * mib, 33 * mib), (40 * mib, 42 * mib)})

    assert grown(before, now) == [(8 * mib, 24 * mib), (40 * mib, 42 * mib)]


@only_with_huge_pages
def test_a_copy_of_the_weights_asks_for_huge_pages_and_a_map_does_not(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "wide.gguf", WIDE)
    size = path.stat().st_size

    assert asked_by_a_load(path, "copied") >= 0.9 * size
    assert asked_by_a_load(path, "mapped") < 0.5 * size


@only_with_huge_pages
def test_it_is_asked_once() -> None:
    new = NewMemory()
    new.ask_once()
    before = asking_bytes()
    held = bytearray(8 << 20)
    new.ask_once()

    assert asking_bytes() == before
    assert len(held) == 8 << 20


@pytest.mark.skipif(sys.platform == "linux", reason="Linux has them")
def test_elsewhere_nothing_is_asked() -> None:
    NewMemory().ask_once()


def asked_by_a_load(path: Path, how: str) -> int:
    """The bytes of a process that loads the file, which have asked."""
    command = [sys.executable, "-c", LOAD, str(path), how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return int(done.stdout)


def asking_bytes() -> int:
    """Of this process's memory what has asked: "hg" in its flags (proc_pid_smaps(5))."""
    total = size = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"Size: +(\d+) kB", line):
            size = int(found[1]) << 10
        elif line.startswith("VmFlags:") and " hg" in line:
            total += size
    return total
