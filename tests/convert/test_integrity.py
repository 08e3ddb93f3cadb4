"""Source files read whole: their hashes, the checksums inside them, and no further than asked."""

from __future__ import annotations

import hashlib
import time
import zlib
from pathlib import Path

import pytest

from convert import integrity
from convert.integrity import Integrity
from convert.sources.tensors import StoredRange
from fwlocal.errors import BadCheckpoint

DATA = bytes(range(256)) * 40_000  # 10 MB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of ``DATA``."""
    file = tmp_path / "weights.bin"
    file.write_bytes(DATA)
    return file


def test_hashes_are_those_of_the_files(path: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    expected = tuple(hashlib.sha256(data).hexdigest() for data in (DATA, b""))
    assert Integrity([path, empty], {}).result() == expected


def test_a_checksum_that_does_not_fit_names_the_entry(path: Path) -> None:
    good = StoredRange("data/0", 1000, 5_000_000, zlib.crc32(DATA[1000:5_001_000]))
    assert Integrity([path], {path: (good,)}).result()
    bad = StoredRange("data/1", 6_000_000, 1000, 1)
    with pytest.raises(BadCheckpoint, match=r"weights\.bin: data/1 is damaged \(its CRC-32 is "):
        Integrity([path], {path: (bad, good)}).result()


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"gone\.bin: cannot be read: No such file"):
        Integrity([tmp_path / "gone.bin"], {}).result()


def test_it_stays_a_little_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_AHEAD", 0)
    monkeypatch.setattr(integrity, "_BLOCK", 1 << 20)
    waiting = Integrity([path], {})
    time.sleep(0.05)
    waiting.check()
    assert waiting.hashed_bytes <= 1 << 20
    waiting.advance(4 << 20)
    time.sleep(0.05)
    assert waiting.hashed_bytes <= 5 << 20
    assert waiting.result() == (hashlib.sha256(DATA).hexdigest(),)
    assert waiting.hashed_bytes == len(DATA)


def test_it_can_be_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_AHEAD", -1)
    waiting = Integrity([path], {})
    waiting.stop()
    assert waiting.hashed_bytes <= len(DATA)
