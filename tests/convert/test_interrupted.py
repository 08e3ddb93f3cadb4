"""Conversions that are stopped: the program itself is killed, interrupted, and out of disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import Run
from tests.convert.checkpoints import write_checkpoint
from tests.tiny_llama import Shape

SHAPE = Shape(512, 1024, 6, 8, 4, vocab_size=512)  # a second of work
LEVELS = ("Q4_K_M", "Q8_0")
N_TENSORS = 3 + 6 * 9
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    return write_checkpoint(tmp_path_factory.mktemp("source") / "whale", SHAPE, shards=2)


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed conversion writes."""
    out = tmp_path_factory.mktemp("expected")
    subprocess.run([*command(source, out)], check=True, capture_output=True)
    return hashes(out)


def command(source: Path, out: Path) -> list[str]:
    """``fwlocal convert`` with both levels."""
    arguments = ("convert", str(source), "--quant", ",".join(LEVELS), "--out", str(out))
    return [sys.executable, "-m", "fwlocal", *arguments]


def hashes(out: Path) -> dict[str, str]:
    """The SHA-256 of every file under its final name."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.gguf")}


def start(source: Path, out: Path) -> subprocess.Popen[str]:
    """The program, running."""
    return subprocess.Popen(
        command(source, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_tensors(process: subprocess.Popen[str], out: Path, count: int) -> None:
    """Until the first level's journal names ``count`` tensors, or all is done."""
    journal = out / f".whale-{LEVELS[0]}.gguf.journal"
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if journal.read_bytes().count(b"\n") > count:
                return
        time.sleep(0.002)


@pytest.mark.parametrize("count", [0, 1, 7, 20, 40, N_TENSORS])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    count: int, source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    process = start(source, tmp_path)
    wait_for_tensors(process, tmp_path, count)
    process.kill()
    process.communicate()
    again = subprocess.run(command(source, tmp_path), capture_output=True, text=True, check=True)
    assert hashes(tmp_path) == expected
    assert {p.name for p in tmp_path.iterdir()} == set(expected)  # and nothing else is left
    if 0 < count < N_TENSORS:
        assert f"of {N_TENSORS} tensors" in again.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_far_it_is(
    number: signal.Signals, code: int, source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    process = start(source, tmp_path)
    wait_for_tensors(process, tmp_path, 5)
    process.send_signal(number)
    stdout, stderr = process.communicate()
    assert process.returncode == code
    assert not stdout
    assert f"of {2 * N_TENSORS} tensors are done; the same command goes on from there" in stderr
    assert "Traceback" not in stderr
    assert not hashes(tmp_path)
    subprocess.run(command(source, tmp_path), check=True, capture_output=True)
    assert hashes(tmp_path) == expected


def test_what_the_disk_lost_is_converted_again(
    source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    process = start(source, tmp_path)
    wait_for_tensors(process, tmp_path, 20)
    process.kill()
    process.communicate()
    partial, journal = (tmp_path / f".whale-Q8_0.gguf.{kind}" for kind in ("partial", "journal"))
    with partial.open("r+b") as file:
        file.seek(partial.stat().st_size // 2)
        file.write(bytes(100_000))
    with journal.open("a", encoding="utf-8") as lines:
        lines.write('{"tensor": "blk.5.ffn_')  # the last line was cut short
    subprocess.run(command(source, tmp_path), check=True, capture_output=True)
    assert hashes(tmp_path) == expected


def test_a_changed_source_is_converted_anew(source: Path, tmp_path: Path) -> None:
    changing = write_checkpoint(tmp_path / "whale", SHAPE)
    out = tmp_path / "out"
    process = start(changing, out)
    wait_for_tensors(process, out, 20)
    process.kill()
    process.communicate()
    write_checkpoint(changing, SHAPE, seed=9)
    again = subprocess.run(command(changing, out), check=True, capture_output=True, text=True)
    assert "the source or the options have changed; starting anew" in again.stderr
    straight = tmp_path / "straight"
    subprocess.run(command(changing, straight), check=True, capture_output=True)
    assert hashes(out) == hashes(straight)


def test_a_full_disk_keeps_what_is_done(
    source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """A limit on file sizes stands for the disk: the same failed write."""
    limit = 8_000_000  # of the 17 MB of Q8_0

    def limited() -> None:
        import resource  # there is none on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    stopped = subprocess.run(
        command(source, tmp_path), capture_output=True, text=True, preexec_fn=limited, check=False
    )
    assert stopped.returncode == 5
    assert "no room left" in stopped.stderr
    assert "the same command then goes on" in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 1
    assert not hashes(tmp_path)
    again = subprocess.run(command(source, tmp_path), capture_output=True, text=True, check=True)
    assert "going on after" in again.stderr
    assert hashes(tmp_path) == expected


def test_a_second_run_says_who_holds_the_file(source: Path, tmp_path: Path) -> None:
    first = start(source, tmp_path)
    wait_for_tensors(first, tmp_path, 1)
    first.send_signal(signal.SIGSTOP)
    try:
        second = subprocess.run(
            command(source, tmp_path), capture_output=True, text=True, check=False
        )
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert f"whale-Q4_K_M.gguf: process {first.pid} on" in second.stderr
    assert "is writing it" in second.stderr
    first.communicate()
    assert first.returncode == 0
    assert len(hashes(tmp_path)) == len(LEVELS)


def test_a_partial_file_that_is_a_link_is_not_followed(source: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".whale-Q8_0.gguf.partial").symlink_to(precious)
    subprocess.run(command(source, out), check=True, capture_output=True)
    assert precious.read_text() == "mine"
    assert not (out / "whale-Q8_0.gguf").is_symlink()


def test_other_runs_left_overs_are_named(source: Path, tmp_path: Path) -> None:
    left = tmp_path / ".whale-IQ4_XS.gguf.partial"
    left.write_bytes(bytes(1000))
    done = subprocess.run(command(source, tmp_path), check=True, capture_output=True, text=True)
    assert f"{left}: unfinished, of another run" in done.stderr
    assert left.exists()


@pytest.mark.parametrize("journal", ['{"tensor": []}\n', "[]\n", "\0\0", '{"identity": 5}\n{}\n'])
def test_a_journal_of_nonsense_is_no_journal(
    journal: str, source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".whale-Q8_0.gguf.partial").write_bytes(bytes(5000))
    (tmp_path / ".whale-Q8_0.gguf.journal").write_text(journal)
    subprocess.run(command(source, tmp_path), check=True, capture_output=True)
    assert hashes(tmp_path) == expected


def test_a_download_that_was_left_there_is_not_gone_on_with(
    source: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """It grows at the same place; its note would call the conversion's bytes the download's."""
    partial, note = (tmp_path / f".whale-Q8_0.gguf.{kind}" for kind in ("partial", "download"))
    partial.write_bytes(b"GGUF, of another make" * 1000)
    note.write_text("{}")
    process = start(source, tmp_path)
    wait_for_tensors(process, tmp_path, 5)
    process.kill()
    _, stderr = process.communicate()
    assert not note.exists()
    assert "starting anew" not in stderr  # nothing was begun
    note.write_text("{}")  # of a download that came to nothing
    subprocess.run(command(source, tmp_path), check=True, capture_output=True)
    assert hashes(tmp_path) == expected
    assert {path.name for path in tmp_path.iterdir()} == set(expected)


def test_what_is_there_is_kept_unless_it_is_another(
    source: Path, expected: dict[str, str], tmp_path: Path, fwlocal: Run
) -> None:
    arguments = ("convert", source, "--out", tmp_path, "--quant")
    assert fwlocal(*arguments, "Q8_0").returncode == 0
    written = (tmp_path / "whale-Q8_0.gguf").stat().st_mtime_ns
    more = fwlocal(*arguments, "Q8_0,Q4_K_M")
    assert more.returncode == 0
    assert "whale-Q8_0.gguf: already there, made from the same source" in more.stderr
    assert (tmp_path / "whale-Q8_0.gguf").stat().st_mtime_ns == written
    assert hashes(tmp_path) == expected
    other = tmp_path / "whale-Q6_K.gguf"
    other.write_bytes(b"something else")
    refused = fwlocal(*arguments, "Q6_K")
    assert refused.returncode == 2
    assert f"{other}: exists and is not what this would write; --overwrite" in refused.stderr
    assert other.read_bytes() == b"something else"
    assert fwlocal(*arguments, "Q6_K", "--overwrite").returncode == 0
    assert other.stat().st_size > 1_000_000


def test_what_another_process_is_writing_is_left_alone(
    source: Path, tmp_path: Path, fwlocal: Run
) -> None:
    """Another run with --overwrite, beside a finished file."""
    arguments = ("convert", source, "--out", tmp_path, "-q", "Q8_0")
    fwlocal(*arguments)
    left = [tmp_path / f".whale-Q8_0.gguf.{kind}" for kind in ("partial", "journal")]
    for path in left:
        path.touch()
    with FileLock(tmp_path / ".whale-Q8_0.gguf.lock"):
        assert fwlocal(*arguments).returncode == 0
        assert all(path.exists() for path in left)
    assert fwlocal(*arguments).returncode == 0
    assert not any(path.exists() for path in left)


def test_a_folder_that_cannot_be_written(source: Path, tmp_path: Path, fwlocal: Run) -> None:
    (tmp_path / "file").touch()
    done = fwlocal("convert", source, "--out", tmp_path / "file" / "out")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize("kind", ["loop", "dangling", "loop/below", "file/below"])
def test_a_folder_that_cannot_be_one(
    kind: str, more: tuple[str, ...], source: Path, tmp_path: Path, fwlocal: Run
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    done = fwlocal("convert", source, "-q", "Q8_0", "--out", tmp_path / kind, *more)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{tmp_path / kind}: cannot be written" in done.stderr


def test_paths_go_to_stdout_or_json(source: Path, tmp_path: Path, fwlocal: Run) -> None:
    done = fwlocal("convert", source, "-q", "q8_0", "-o", tmp_path, "--json")
    answer = json.loads(done.stdout)
    path = tmp_path / "whale-Q8_0.gguf"
    assert (answer["wrote"], answer["present"]) == ([str(path)], [])
    assert answer["levels"][0]["level"] == "Q8_0"
    assert answer["levels"][0]["file_size_bytes"] == path.stat().st_size
    assert done.stderr == ""
    assert os.listdir(tmp_path) == ["whale-Q8_0.gguf"]
