"""Source files read whole: their hashes, the checksums inside them, and no further than asked."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from convert import integrity
from convert.integrity import Integrity
from convert.sources.source_file import WrongBytes
from convert.sources.tensors import StoredRange
from convert.sources.weight_file import WeightFile
from fwlocal.errors import BadCheckpoint

DATA = bytes(range(256)) * 40_000  # 10 MB


@pytest.fixture
def file(tmp_path: Path) -> Iterator[WeightFile]:
    """A file of ``DATA``."""
    path = tmp_path / "weights.bin"
    path.write_bytes(DATA)
    with closing(WeightFile(path)) as opened:
        yield opened


def test_hashes_are_those_of_the_files(file: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    expected = tuple(hashlib.sha256(data).hexdigest() for data in (DATA, b""))
    with closing(WeightFile(tmp_path / "empty")) as empty:
        assert Integrity([file, empty], {}).result() == expected


def test_a_hash_that_is_known_is_not_computed(file: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "remote").touch()
    with closing(WeightFile(tmp_path / "remote")) as remote:
        remote.sha256 = "known"
        assert Integrity([remote, file], {}).result()[0] == "known"


def test_a_checksum_that_does_not_fit_names_the_entry(file: WeightFile) -> None:
    good = StoredRange("data/0", 1000, 5_000_000, zlib.crc32(DATA[1000:5_001_000]))
    assert Integrity([file], {file.path: (good,)}).result()
    bad = StoredRange("data/1", 6_000_000, 1000, 1)
    with pytest.raises(BadCheckpoint, match=r"weights\.bin: data/1 is damaged \(its CRC-32 is "):
        Integrity([file], {file.path: (bad, good)}).result()


def test_a_file_that_is_gone_is_named(file: WeightFile) -> None:
    file.close()
    file.path.unlink()
    with pytest.raises(BadCheckpoint, match=r"weights\.bin: cannot be read: No such file"):
        Integrity([file], {}).result()


def test_it_stays_a_little_ahead(file: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_AHEAD", 0)
    monkeypatch.setattr(integrity, "_BLOCK", 1 << 20)
    waiting = Integrity([file], {})
    time.sleep(0.05)
    waiting.check()
    assert waiting.hashed_bytes <= 1 << 20
    waiting.advance(4 << 20)
    time.sleep(0.05)
    assert waiting.hashed_bytes <= 5 << 20
    assert waiting.result() == (hashlib.sha256(DATA).hexdigest(),)
    assert waiting.hashed_bytes == len(DATA)


def test_it_can_be_stopped(file: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_AHEAD", -1)
    waiting = Integrity([file], {})
    waiting.stop()
    assert waiting.hashed_bytes <= len(DATA)


def test_a_file_that_is_not_what_it_is_known_to_be(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(DATA)
    found = hashlib.sha256(DATA).hexdigest()
    with closing(WeightFile(path, found)) as good:
        assert Integrity([good], {}).result() == (found,)
    with closing(WeightFile(path, "0" * 64)) as bad, pytest.raises(WrongBytes) as caught:
        Integrity([bad], {}).result()
    message = str(caught.value)
    assert f"{path}: is damaged (sha256 {found[:12]}…, not {'0' * 12}…); remove {path}" in message


def test_a_blob_of_hugging_faces_cache_is_called_by_its_hash(tmp_path: Path) -> None:
    right, wrong = hashlib.sha256(DATA).hexdigest(), "0" * 64
    for name in (right, wrong, "0" * 40):
        (tmp_path / "blobs").mkdir(exist_ok=True)
        (tmp_path / "blobs" / name).write_bytes(DATA)
        (tmp_path / f"{name}.safetensors").symlink_to(tmp_path / "blobs" / name)
    for name in (right, "0" * 40):  # git's hash of a small file
        with closing(WeightFile(tmp_path / f"{name}.safetensors")) as file:
            assert Integrity([file], {}).result() == (right,)
    with (
        closing(WeightFile(tmp_path / f"{wrong}.safetensors")) as file,
        pytest.raises(WrongBytes, match=f"remove {tmp_path / 'blobs' / wrong}, and the same"),
    ):
        Integrity([file], {}).result()
