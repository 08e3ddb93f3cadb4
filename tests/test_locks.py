"""One process at a time is at work on a file, and whoever waits is told on whom."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal.errors import StoreError
from fwlocal.locks import Lock, held, holder_of, holder_path, lock_path

HOLD = """
import sys, pathlib
from fwlocal.locks import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
lock.acquire("downloading it", wait=False)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that need not be there."""
    return tmp_path / "m-Q4_K_M.gguf"


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_leaves_nothing_behind(path: Path) -> None:
    with held(path, "converting it"):
        assert str(holder_of(path)).endswith(f"process {os.getpid()} on {socket.gethostname()} is "
                                             "converting it")  # fmt: skip
        assert lock_path(path).exists()
    assert holder_of(path) is None
    assert not list(path.parent.iterdir())


def test_the_holder_is_named(path: Path, other: subprocess.Popen[str]) -> None:
    says = rf"m-Q4_K_M\.gguf: process {other.pid} on .* is downloading it; wait for that"
    with pytest.raises(StoreError, match=says):
        Lock(path).acquire("removing it", wait=False)
    assert other.poll() is None


def test_who_waits_is_told_once_and_gets_the_lock_of_a_killed_process(
    path: Path, other: subprocess.Popen[str]
) -> None:
    told: list[str] = []

    def on_wait(holder: str) -> None:
        told.append(holder)
        threading.Timer(0.5, other.kill).start()

    with held(path, "removing it", wait=True, on_wait=on_wait):
        assert [f"process {other.pid} on {socket.gethostname()} is downloading it"] == told
        assert "removing it" in str(holder_of(path))
    assert not list(path.parent.iterdir())


def test_what_a_killed_process_left_is_stale(path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    assert holder_path(path).exists()
    assert holder_of(path) is None
    with held(path, "removing it"):
        pass
    assert not list(path.parent.iterdir())


def test_the_lock_of_the_same_process_is_one_too(path: Path) -> None:
    with held(path, "converting it"), pytest.raises(StoreError, match=f"process {os.getpid()} on"):
        Lock(path).acquire("removing it", wait=False)


def test_another_file_has_another_lock(path: Path) -> None:
    with held(path, "a"), held(path.with_name("m-Q8_0.gguf"), "b"):
        pass


def test_only_one_of_many_threads_is_in(path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        with held(path, "counting", wait=True):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)  # long enough for another one to come in
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"5",
        b"{}",
        b'{"pid": "1", "host": "h", "since": "", "doing": ""}',
        b'{"pid": 1, "host": "a\\u001bb", "since": "", "doing": ""}',
        b"[" * 5000,
    ],
)
def test_a_holder_of_nonsense_is_nobody(path: Path, content: bytes) -> None:
    holder_path(path).write_bytes(content)
    assert holder_of(path) is None
    with held(path, "x"):
        assert holder_of(path) is not None


def test_of_another_machine_nothing_is_known(path: Path) -> None:
    holder = {"pid": 1, "host": "elsewhere", "since": "", "doing": "converting it"}
    holder_path(path).write_text(json.dumps(holder))
    assert str(holder_of(path)) == "process 1 on elsewhere is converting it"
    with held(path, "x"):  # the system's lock decides
        pass


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Lock(tmp_path / "file" / "m.gguf").acquire("x", wait=False)


def test_releasing_what_is_not_held_does_nothing(path: Path) -> None:
    Lock(path).release()
