"""Folders, disks and processes that get in the way: no entry then, and no harm."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.locks import held
from fwlocal.prefix_cache import PrefixCache
from fwlocal.prefix_cache.cache import LOCK_NAME, SPARE_BYTES
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


def test_reading_that_takes_too_long_is_given_up(root: Path) -> None:
    cache = PrefixCache(root, 1 << 25, free_bytes=roomy)
    cache.put(SETTING, TEXT, bytes(9 << 20), prefill_s=1.0)
    hit = cache.find(SETTING, TEXT)
    assert hit is not None

    slow = replace(hit, header=replace(hit.header, prefill_s=-1e9))  # the time is long over

    assert cache.load(slow) is None
    assert cache.load(hit) is not None, "and it stays"


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


def test_some_of_the_disk_is_left_to_others(machine: Machine) -> None:
    machine.disk_bytes = SPARE_BYTES + 10_000

    assert machine.put(TEXT, size_bytes=9000) == "no room"
    assert not machine.entries
    assert machine.put(TEXT, size_bytes=2000) == "written"


def test_whoever_gives_up_leaves_nothing_behind(machine: Machine) -> None:
    outcome = machine.cache.put(SETTING, TEXT, state_of(TEXT), 1.0, give_up=lambda: True)

    assert outcome == "given up"
    assert not list(machine.cache.root.iterdir())
