"""Folders, disks and processes that get in the way: no entry then, and no harm."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fwlocal.locks import held
from fwlocal.prefix_cache import PrefixCache
from fwlocal.prefix_cache.cache import LOCK_NAME, PATIENCE_S, SPARE_BYTES, too_slow
from fwlocal.prefix_cache.form import GivenUp, read_state
from fwlocal.prefix_cache.headers import read_entry
from tests.prefix_cache.kept import SETTING, Machine, roomy, state_of

TEXT = list(range(1000, 2000))
OTHER = list(range(5000, 5300))


def test_other_files_are_not_touched(machine: Machine) -> None:
    machine.put(TEXT)
    mine = machine.cache.root / "notes.kv"
    mine.write_text("mine")
    (machine.cache.root / ("0" * 16 + "-" + "0" * 32 + ".kv")).mkdir()

    machine.put(OTHER)

    assert mine.read_text() == "mine"
    assert machine.common(TEXT) == 999


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_only_plain_files_are_opened(machine: Machine, tmp_path: Path) -> None:
    machine.put(TEXT)
    entry = machine.entries[0]
    entry.rename(tmp_path / "elsewhere")

    entry.symlink_to(tmp_path / "elsewhere")
    assert machine.find(TEXT) is None
    entry.unlink()
    os.mkfifo(entry)
    assert machine.find(TEXT) is None


@pytest.mark.skipif(os.name != "posix", reason="there are no such permissions")
def test_it_is_readable_by_its_user_alone(machine: Machine) -> None:
    machine.cache.root.mkdir(parents=True, mode=0o755)
    machine.put(TEXT)

    assert machine.cache.root.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in machine.entries] == [0o600]


@pytest.mark.skipif(os.name != "posix", reason="files have no such owner")
def test_a_state_of_somebody_else_is_not_loaded(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.put(TEXT)
    monkeypatch.setattr(os, "getuid", lambda: machine.entries[0].stat().st_uid + 1)

    assert machine.find(TEXT) is None


def test_an_entry_that_is_gone_when_it_is_read(machine: Machine) -> None:
    machine.put(TEXT)
    hit = machine.find(TEXT)
    assert hit is not None
    machine.cache.drop(hit)

    assert machine.cache.load(hit) is None
    assert machine.find(TEXT) is None


class SlowFile(io.BytesIO):
    """An entry on a slow network disk."""

    def __init__(self, content: bytes, block_s: float) -> None:
        super().__init__(content)
        self._block_s = block_s
        self.n_blocks = 0

    def readinto(self, buffer: Any) -> int:
        self.n_blocks += 1
        time.sleep(self._block_s)
        return super().readinto(buffer)


@pytest.mark.parametrize(("prefill_s", "is_read"), [(1.0, False), (1000.0, True)])
def test_a_slow_disk_is_noticed_after_a_little_of_an_entry(
    root: Path, prefill_s: float, *, is_read: bool
) -> None:
    cache = PrefixCache(root, 1 << 25, free_bytes=roomy)
    content = bytes(9 << 20)
    cache.put(SETTING, TEXT, content, prefill_s)
    hit = cache.find(SETTING, TEXT)
    assert hit is not None
    disk = SlowFile(hit.path.read_bytes(), block_s=PATIENCE_S + 0.01 if not is_read else 0.0)
    disk.seek(hit.header.header_bytes)

    header = read_entry(str(hit.path))
    assert header is not None
    slow = too_slow(hit, started=time.monotonic())
    if is_read:
        assert bytes(read_state(disk, header, slow)) == content
    else:
        with pytest.raises(GivenUp):
            read_state(disk, header, slow)
        assert disk.n_blocks == 1

    assert cache.load(hit) is not None, "and the entry stays"


HOLD = """
import sys, pathlib
from fwlocal.locks import held
with held(pathlib.Path(sys.argv[1]), "keeping the state of a prompt"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_writer(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is writing."""
    root.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root / LOCK_NAME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_while_another_writes_nothing_is_written_and_all_is_read(
    root: Path, other_writer: subprocess.Popen[str]
) -> None:
    machine = Machine(root)
    assert machine.put(TEXT) == "busy"

    other_writer.kill()
    other_writer.wait()
    assert machine.put(TEXT) == "written"
    with held(root / LOCK_NAME, "keeping the state of a prompt"):
        assert machine.common(TEXT) == 999


def quiet_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("fwlocal")]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What would be told if it was asked for."""
    caplog.set_level(logging.INFO)
    return caplog


def test_a_folder_that_cannot_be_made_costs_one_quiet_line(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    machine = Machine(tmp_path / "file" / "prefixes")

    assert machine.put(TEXT) == "failed"
    assert machine.find(TEXT) is None
    assert machine.put(OTHER) == "failed"

    (line,) = quiet_lines(log)
    assert line.startswith(f"{tmp_path / 'file' / 'prefixes'}: prompts are not kept there (")
    assert [record.levelno for record in log.records] == [logging.INFO]


@pytest.mark.skipif(os.name != "posix" or not os.getuid(), reason="nothing is closed to root")
def test_a_read_only_folder_is_read(machine: Machine, log: pytest.LogCaptureFixture) -> None:
    machine.put(TEXT)
    machine.cache.root.chmod(0o500)
    try:
        assert machine.common(TEXT) == 999
        assert machine.put(OTHER) == "failed"
        assert len(quiet_lines(log)) == 1
    finally:
        machine.cache.root.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_full_disk_leaves_nothing_behind(machine: Machine, log: pytest.LogCaptureFixture) -> None:
    import resource

    machine.put(OTHER)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        assert machine.put(TEXT, size_bytes=300_000) == "failed"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert machine.common(OTHER) == 299
    assert [path.name for path in machine.cache.root.iterdir()] == [machine.entries[0].name]
    assert len(quiet_lines(log)) == 1


def test_no_memory_to_write_leaves_nothing_behind(machine: Machine) -> None:
    def give_up() -> bool:
        raise MemoryError

    assert machine.cache.put(SETTING, TEXT, state_of(TEXT), 1.0, give_up) == "failed"
    assert not list(machine.cache.root.iterdir())


def test_some_of_the_disk_is_left_to_others(machine: Machine) -> None:
    machine.disk_bytes = SPARE_BYTES + 10_000

    assert machine.put(TEXT, size_bytes=9000) == "no room"
    assert not machine.entries
    assert machine.put(TEXT, size_bytes=2000) == "written"


def test_whoever_gives_up_leaves_nothing_behind(machine: Machine) -> None:
    outcome = machine.cache.put(SETTING, TEXT, state_of(TEXT), 1.0, give_up=lambda: True)

    assert outcome == "given up"
    assert not list(machine.cache.root.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_a_folder_behind_a_link_is_as_good_as_any(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    machine, lost = Machine(tmp_path / "link"), Machine(tmp_path / "nowhere")

    assert machine.put(TEXT) == "written"
    assert machine.common(TEXT) == 999
    assert lost.put(TEXT) == "failed"
    assert lost.find(TEXT) is None


def test_where_no_lock_can_be_had_nothing_is_written_and_all_is_read(
    machine: Machine, log: pytest.LogCaptureFixture
) -> None:
    """As on a network disk without locks."""
    machine.put(TEXT)
    (machine.cache.root / f".{LOCK_NAME}.lock").mkdir()

    assert machine.put(OTHER) == "failed"
    assert machine.common(TEXT) == 999
    assert len(machine.entries) == 1
    assert len(quiet_lines(log)) == 1


def test_an_entry_of_another_version_leaves_and_is_written_anew(machine: Machine) -> None:
    machine.put(TEXT)
    (entry,) = machine.entries
    content = bytearray(entry.read_bytes())
    content[8] += 1
    entry.write_bytes(content)

    fresh = Machine(machine.cache.root)  # a process that knows nothing yet
    assert fresh.find(TEXT) is None
    assert not fresh.entries
    assert fresh.put(TEXT) == "written"
    assert fresh.common(TEXT) == 999


KEEP = """
import sys, pathlib
from tests.prefix_cache.kept import Machine
print(Machine(pathlib.Path(sys.argv[1])).put(list(range(1000, 2000)), size_bytes=300_000))
"""


def test_two_processes_that_keep_the_same_prompt(root: Path) -> None:
    """One of them does, and the other one does no harm."""
    command = [sys.executable, "-c", KEEP, str(root)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outcomes = sorted(process.communicate(timeout=60)[0].strip() for process in both)

    assert outcomes in (["known", "written"], ["busy", "written"])
    machine = Machine(root)
    assert len(machine.entries) == 1
    assert machine.common(TEXT) == 999


KILL = """
import os, signal, sys, pathlib
from tests.prefix_cache.kept import Machine
n_left = int(sys.argv[2])

def audit(event, arguments):
    global n_left
    if event in EVENTS and str(sys.argv[1]) in str(arguments[0] if arguments else ""):
        n_left -= 1
        if n_left == 0:
            print(event, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

EVENTS = {"open", "os.rename", "os.remove", "os.utime", "os.mkdir", "os.chmod", "os.scandir"}
sys.addaudithook(audit)
machine = Machine(pathlib.Path(sys.argv[1]))
print(machine.put(list(range(1000, 2000)), size_bytes=300_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_a_writer_killed_before_any_of_its_steps(tmp_path: Path) -> None:
    """The beginning of the text is there already; the whole is being kept in its place."""
    events = []
    for step in range(1, 60):
        machine = Machine(tmp_path / f"step{step}")
        machine.put(TEXT[:400])
        command = [sys.executable, "-c", KILL, str(machine.cache.root), str(step)]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        events.append(process.stdout.strip())
        if process.returncode == 0:
            break
        assert machine.common(TEXT) in (400, 999), f"lost at step {step}, {events[-1]}"
        assert machine.put(TEXT) in ("written", "known")
        assert machine.common(TEXT) == 999
        machine.put(OTHER)
        assert len(machine.entries) <= 3
        assert not [path for path in machine.cache.root.iterdir() if path.suffix == ".new"]

    assert events[-1] == "written"
    assert {"open", "os.rename", "os.remove", "os.utime"} <= {*events}
