"""The file that a batch's answers are appended to: what is there already, and one line more.

A line is written whole, by one call. What a crash left of a last line is cut off; anything else
that is no answer is somebody's, and nothing is written to such a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from fwlocal.errors import StoreError, UsageError
from fwlocal.files import NO_ROOM
from fwlocal.locks import held
from fwlocal.oneshot.asking import parse_json
from fwlocal.oneshot.batch_lines import Id

SYNC_EVERY_S = 5.0
_ANOTHER = "take another --out, or remove that file"


@dataclass(frozen=True)
class Record:
    """A line that is there: whose answer it is, to the question of which fingerprint."""

    number: int
    id: Id
    asked: str
    is_error: bool


@dataclass(frozen=True)
class Before:
    """What a file holds: its answers, and how many of its bytes are whole lines."""

    records: tuple[Record, ...] = ()
    n_bytes: int = 0

    @property
    def done(self) -> dict[tuple[Id, str], Record]:
        """By id and fingerprint."""
        return {(record.id, record.asked): record for record in self.records}


def read_before(path: Path) -> Before:
    """What a batch that was stopped has left. Raises UsageError for a file of something else."""
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except FileNotFoundError:
        return Before()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(file: BinaryIO, path: Path) -> Before:
    records, n_bytes = [], 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        if line.strip():
            records.append(_record(line, number, path))
        n_bytes += len(line)
    return Before(tuple(records), n_bytes)


def _record(line: bytes, number: int, path: Path) -> Record:
    try:
        data = parse_json(line.decode())
    except ValueError:
        data = None
    found = data if isinstance(data, dict) else {}
    line_id, asked = found.get("id"), found.get("asked")
    if not isinstance(line_id, (str, int, float)) or not isinstance(asked, str):
        raise UsageError(f"{path}: line {number} is no answer of a batch; {_ANOTHER}")
    return Record(number, line_id, asked, "error" in found)


def check_same_batch(before: Before, questions: Mapping[Id, Collection[str]], path: Path) -> None:
    """Raise UsageError where an answer that is there is to none of the ``questions``, fingerprints
    by id. An error may have been another line, which was mended since."""
    for record in before.records:
        where = f"{path}: line {record.number}"
        name = json.dumps(record.id, ensure_ascii=False)
        if record.id not in questions:
            raise UsageError(f"{where} has the id {name}, which the input has not; {_ANOTHER}")
        if not record.is_error and record.asked not in questions[record.id]:
            raise UsageError(
                f"{where} answers {name}, but another question, by another model or with other "
                f"options; {_ANOTHER}"
            )


class Lines(Protocol):
    """Writes records, a line each."""

    def write(self, record: Mapping[str, object]) -> None: ...


class Printed:
    """On stdout."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, record: Mapping[str, object]) -> None:
        self._stdout.write(_line(record))
        self._stdout.flush()


class Appended:
    """At the end of a file, which outlives a crash now and then."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle
        self._synced = time.monotonic()
        self._is_file = stat.S_ISREG(os.fstat(handle).st_mode)

    def write(self, record: Mapping[str, object]) -> None:
        data = _line(record).encode()
        with _complained_about(self._path):
            while data:  # a second call only where the disk took less
                data = data[os.write(self._handle, data) :]
            if time.monotonic() - self._synced > SYNC_EVERY_S:
                self.sync()

    def sync(self) -> None:
        """Have it on the disk."""
        if self._is_file:
            os.fsync(self._handle)
        self._synced = time.monotonic()


@contextlib.contextmanager
def appending(path: Path) -> Iterator[tuple[Before, Appended]]:
    """What the file at ``path`` holds, and a way to append to it; another batch is kept out.

    Nothing is changed before the first line: what a crash left of the last one goes then. Raises
    Busy, StoreError and UsageError.
    """
    with contextlib.ExitStack() as stack:
        before = Before()
        if path.is_file() or not path.exists():  # no pipe or terminal
            with _complained_about(path):
                stack.enter_context(held(path, "writing answers to it"))
            before = read_before(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with _complained_about(path):
            handle = os.open(path, flags, 0o666)
        stack.callback(os.close, handle)
        lines = Appended(path, handle)
        yield before, lines
        with _complained_about(path):
            lines.sync()


def cut_off(path: Path, before: Before) -> bool:
    """Cut off what a crash left of the last line; whether there was any."""
    with _complained_about(path):
        if not path.is_file() or path.stat().st_size == before.n_bytes:
            return False
        os.truncate(path, before.n_bytes)
    return True


@contextlib.contextmanager
def _complained_about(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        room = "; make room" if error.errno in NO_ROOM else "; take another --out"
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}{room}") from error


def _line(record: Mapping[str, object]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
