"""Measurements on the disk, by key, as they come: a run that was stopped goes on from them.

A key says all that a measurement depends on; each has a folder of its own in Kept's, with files
``round-N.json``, ``scores-START-COUNT.bin`` (chunks, any number together) and ``answers.json``.
Each is written whole, so neither a kill nor a second process damages one. The answers are written
again with each that is added, and a round with each of its tests. Who measures the same at the same
time writes the same names. What counts is the row from 0 up to the first gap: a damaged file is
removed when it is met, and what it held is measured again.

A file of scores is a line of JSON, {"lengths": positions of each chunk, "sha256": of the rest}, and
then, for all its chunks together, nll, reference_nll, kld and dp as little-endian float32, and
same_top and is_nan as a byte each.

This is a help and never a condition: what cannot be written is told by ``problem`` and is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from fwlocal.bench.measured import ChunkScores, Round
from fwlocal.bench.records import Mismatch, plain, record
from fwlocal.files import store_error, write_atomically

LIMIT_BYTES = 256 << 20
_MAX_FILE_BYTES = 64 << 20
_TRIM_EVERY_BYTES = 16 << 20
_FIGURES = ("nll", "reference_nll", "kld", "dp")
_FLAGS = ("same_top", "is_nan")
_POSITION_BYTES = 4 * len(_FIGURES) + len(_FLAGS)
_SCORES = re.compile(r"scores-(\d{1,9})-(\d{1,9})\.bin")
_ANSWERS = "answers.json"
_KEY = re.compile(r"[0-9a-f]{64}")


class _Damaged(Exception):
    """A file that is not what was written."""


@dataclass(frozen=True)
class _Answers:
    tokens: tuple[tuple[int, ...], ...]


def key_of(**facts: object) -> str:
    """The key of what depends on these facts: the SHA-256 of them as JSON, whatever their order.
    Paths and the like count by their text."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


class Kept:
    """What is kept in ``folder``, which need not exist. Above ``limit_bytes`` the keys that were
    used longest ago leave, never one that this object has used."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.problem = ""  # why something could not be kept, in one line
        self._limit_bytes = limit_bytes
        self._used: set[str] = set()
        self._since_trim: int | None = None

    def rounds(self, key: str) -> list[Round]:
        """The rounds that are kept, in their order."""
        return list(self._rounds(self._use(key)))

    def _rounds(self, entry: Path) -> Iterator[Round]:
        for number in count():
            path = _round_path(entry, number)
            content = _content(path)
            if content is None:
                return
            try:
                yield record(Round, _json(content))
            except (Mismatch, _Damaged):
                _remove(path)
                return

    def add_round(self, key: str, measured: Round, number: int | None = None) -> None:
        """Keep one more, or the one that has this ``number``, from 0, in place of what it was."""
        number = len(self.rounds(key)) if number is None else number
        self._write(_round_path(self._use(key), number), json.dumps(plain(measured)).encode())

    def scores(self, key: str) -> list[ChunkScores]:
        """The scores of the chunks that are kept, from the first on."""
        entry, found = self._use(key), list[ChunkScores]()
        for path, start, n_chunks in _stretches(entry):
            if start > len(found):
                break
            if start + n_chunks <= len(found):
                continue
            try:
                found += _unpacked(_content(path) or b"", n_chunks)[len(found) - start :]
            except _Damaged:
                _remove(path)
        return found

    def add_scores(self, key: str, scores: Sequence[ChunkScores], start: int | None = None) -> None:
        """Keep the scores of chunks ``start`` and following; without it, of those behind what is
        kept."""
        if not scores:
            return
        entry = self._use(key)
        first = _n_kept(entry) if start is None else start
        self._write(entry / f"scores-{first:06d}-{len(scores):06d}.bin", _packed(scores))

    def answers(self, key: str) -> tuple[tuple[int, ...], ...] | None:
        """The tokens of each answer so far; None where none are kept."""
        path = self._use(key) / _ANSWERS
        content = _content(path)
        if content is None:
            return None
        try:
            return record(_Answers, _json(content)).tokens
        except (Mismatch, _Damaged):
            _remove(path)
            return None

    def put_answers(self, key: str, answers: Sequence[Sequence[int]]) -> None:
        """Keep the tokens of each answer, in place of those before."""
        tokens = tuple(tuple(int(token) for token in answer) for answer in answers)
        self._write(self._use(key) / _ANSWERS, json.dumps(plain(_Answers(tokens))).encode())

    def forget(self, key: str) -> None:
        """Remove what is kept under ``key``, to measure it anew."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def _use(self, key: str) -> Path:
        """The folder of a key, used just now."""
        entry = self.folder / key
        self._used.add(key)
        with contextlib.suppress(OSError):
            os.utime(entry)
        return entry

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            self.problem = self.problem or f"not kept: {store_error(error, path.parent)}"
            return
        if self._since_trim is None or self._since_trim > _TRIM_EVERY_BYTES:
            with contextlib.suppress(OSError):
                self._trim()
            self._since_trim = 0
        self._since_trim += len(content)

    def _trim(self) -> None:
        """Let the oldest keys leave until what is kept is within the limit."""
        entries = sorted((_last_use(e), e) for e in self.folder.iterdir() if _is_entry(e))
        sizes = {entry: _size_bytes(entry) for _, entry in entries}
        left_bytes = sum(sizes.values())
        for _, entry in entries:
            if left_bytes <= self._limit_bytes:
                return
            if entry.name not in self._used:
                shutil.rmtree(entry, ignore_errors=True)
                left_bytes -= sizes[entry]


def _round_path(entry: Path, number: int) -> Path:
    return entry / f"round-{number:04d}.json"


def _stretches(entry: Path) -> list[tuple[Path, int, int]]:
    """The files of scores: path, first chunk, how many; by the first chunk, the longest first."""
    try:
        names = [path.name for path in entry.iterdir()]
    except OSError:
        return []
    found = [(int(m[1]), int(m[2]), m[0]) for name in names if (m := _SCORES.fullmatch(name))]
    ordered = sorted(found, key=lambda stretch: (stretch[0], -stretch[1]))
    return [(entry / name, start, n_chunks) for start, n_chunks, name in ordered]


def _n_kept(entry: Path) -> int:
    """How many chunks' scores are kept, by the names of their files."""
    n = 0
    for _, start, n_chunks in _stretches(entry):
        if start > n:
            break
        n = max(n, start + n_chunks)
    return n


def _packed(scores: Sequence[ChunkScores]) -> bytes:
    columns = [_joined(scores, name, "<f4") for name in _FIGURES]
    columns += [_joined(scores, name, "u1") for name in _FLAGS]
    body = b"".join(columns)
    lengths = [len(chunk.nll) for chunk in scores]
    head = {"lengths": lengths, "sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(head).encode() + b"\n" + body


def _joined(scores: Sequence[ChunkScores], name: str, kind: str) -> bytes:
    return b"".join(np.asarray(getattr(chunk, name)).astype(kind).tobytes() for chunk in scores)


def _unpacked(content: bytes, n_chunks: int) -> list[ChunkScores]:
    """Raises _Damaged."""
    line, _, body = content.partition(b"\n")
    head = _json(line)
    lengths = head.get("lengths")
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise _Damaged
    total = sum(lengths)
    if len(lengths) != n_chunks or len(body) != total * _POSITION_BYTES:
        raise _Damaged
    if head.get("sha256") != hashlib.sha256(body).hexdigest():
        raise _Damaged
    n_figures = total * len(_FIGURES)
    figures = np.frombuffer(body, "<f4", n_figures).astype(np.float32)
    flags = np.frombuffer(body, "u1", offset=4 * n_figures) != 0
    cuts = np.cumsum(lengths)[:-1]
    columns = [np.split(column, cuts) for column in figures.reshape(len(_FIGURES), total)]
    marks = [np.split(column, cuts) for column in flags.reshape(len(_FLAGS), total)]
    return [ChunkScores(*parts) for parts in zip(*columns, *marks, strict=True)]


def _json(content: bytes) -> dict[str, Any]:
    """Raises _Damaged."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise _Damaged from None
    if not isinstance(data, dict):
        raise _Damaged
    return data


def _content(path: Path) -> bytes | None:
    """None where there is nothing that can be read, or far too much."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError:
        return None
    return None if len(content) > _MAX_FILE_BYTES else content


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _is_entry(path: Path) -> bool:
    return _KEY.fullmatch(path.name) is not None and path.is_dir() and not path.is_symlink()


def _last_use(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:  # another process removed it
        return 0.0


def _size_bytes(entry: Path) -> int:
    size_bytes = 0
    with contextlib.suppress(OSError):
        for path in entry.iterdir():
            size_bytes += path.stat().st_size
    return size_bytes
