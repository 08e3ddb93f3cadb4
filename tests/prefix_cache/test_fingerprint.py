"""One model's file is told from another without reading it to its end."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fwlocal.gguf import GGUFHeader, read_header
from fwlocal.prefix_cache import fingerprint
from fwlocal.prefix_cache.fingerprint import N_SAMPLES, SAMPLE_BYTES
from fwlocal.store import ModelFile
from tests import tiny_llama

HEADER_BYTES, SIZE = 1000, 40 * N_SAMPLES * SAMPLE_BYTES
SHA = "ab" * 32


def model(path: Path, sha256: str | None = None, parts: int = 1) -> tuple[ModelFile, GGUFHeader]:
    header = GGUFHeader(path, 3, {"split.count": parts}, (), HEADER_BYTES, SIZE)
    return ModelFile("m", path, sha256=sha256), header


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 10 MB, most of it holes."""
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


def poke(path: Path, offset: int, *, keeps_time: bool) -> None:
    """Change a byte in place."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"x")
    moved = 0 if keeps_time else 1_000_000_000
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + moved))


def test_the_same_file_is_the_same(path: Path) -> None:
    assert fingerprint(*model(path)) == fingerprint(*model(path))
    assert len(fingerprint(*model(path)) or "") == 64


@pytest.mark.parametrize("sha256", [None, SHA])
def test_a_file_changed_in_place_is_another_one(path: Path, sha256: str | None) -> None:
    before = fingerprint(*model(path, sha256))

    poke(path, SIZE // 2 + 12345, keeps_time=False)

    assert fingerprint(*model(path, sha256)) != before


@pytest.mark.parametrize(
    "offset", [0, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + SAMPLE_BYTES - 1, SIZE - 1]
)
def test_its_ends_tell_even_if_its_time_does_not(path: Path, offset: int) -> None:
    before = fingerprint(*model(path))

    poke(path, offset, keeps_time=True)

    assert fingerprint(*model(path)) != before


def test_weights_that_all_differ_tell_too(tmp_path: Path) -> None:
    """A model trained further, in a file of the same size, time and header."""
    found = []
    for seed in (1, 2):
        path = tiny_llama.write_gguf(tmp_path / "m.gguf", seed=seed)
        os.utime(path, ns=(1, 1))
        header = read_header(path)
        found.append((path.stat().st_size, fingerprint(ModelFile("m", path), header)))

    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def test_a_longer_file_is_another_one(path: Path) -> None:
    before = fingerprint(*model(path))
    stat = path.stat()
    with path.open("ab") as file:
        file.write(b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert fingerprint(*model(path)) != before


def test_a_copy_of_a_known_file_is_the_same_model(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy2(path, tmp_path / "copy.gguf"))

    assert fingerprint(*model(copy, SHA)) == fingerprint(*model(path, SHA))
    assert fingerprint(*model(copy)) != fingerprint(*model(path)), "who knows"
    assert fingerprint(*model(path, "cd" * 32)) != fingerprint(*model(path, SHA))


def test_of_a_known_file_nothing_is_read(path: Path) -> None:
    before = fingerprint(*model(path, SHA))
    poke(path, 0, keeps_time=True)

    assert fingerprint(*model(path, SHA)) == before


@pytest.mark.parametrize("number", [1, 2])
def test_every_part_of_a_split_model_tells(tmp_path: Path, number: int) -> None:
    paths = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for path in paths:
        path.write_bytes(bytes(HEADER_BYTES + 500))
    before = fingerprint(*model(paths[0], parts=2))

    poke(paths[number - 1], HEADER_BYTES + 100, keeps_time=True)

    assert fingerprint(*model(paths[0], parts=2)) != before


def test_a_file_that_is_gone_has_none(tmp_path: Path) -> None:
    assert fingerprint(*model(tmp_path / "gone.gguf")) is None
    assert fingerprint(*model(tmp_path / "gone.gguf", SHA)) is None
