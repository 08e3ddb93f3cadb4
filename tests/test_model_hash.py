"""Which file answered: hashed once, and told again only while it is the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fwlocal.gguf import GGUFHeader
from fwlocal.model_hash import Memory, sha256_of_model
from fwlocal.store import ModelFile


def stored(
    path: Path, *, sha256: str | None = None, parts: int = 1
) -> tuple[ModelFile, GGUFHeader]:
    header = GGUFHeader(path, 3, {"split.count": parts}, (), 0, 0)
    return ModelFile("m", path, sha256=sha256), header


class Times:
    """How often a file was read to its end."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, fraction: float) -> None:
        self.count += fraction == 1.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that is worth remembering."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    """It keeps the last two hashes, of what has three bytes or more."""
    return Memory(tmp_path / "cache" / "hashes.json", from_bytes=3, most=2)


def test_what_the_store_knows_is_not_computed(tmp_path: Path) -> None:
    assert sha256_of_model(*stored(tmp_path / "gone", sha256="ab"), print) == "ab"


def test_a_hash_is_remembered_until_the_file_changes(model: Path, memory: Memory) -> None:
    read = Times()

    found = [sha256_of_model(*stored(model), read, memory) for _ in range(2)]
    assert found == [hashlib.sha256(b"abc").hexdigest()] * 2
    assert read.count == 1

    model.write_bytes(b"abcd")
    assert sha256_of_model(*stored(model), read, memory) == hashlib.sha256(b"abcd").hexdigest()
    assert read.count == 2


def test_a_small_file_leaves_no_trace(model: Path, memory: Memory) -> None:
    model.write_bytes(b"ab")

    assert sha256_of_model(*stored(model), print, memory)
    assert not memory.path.exists()


NONSENSE = ["", "{", "[]", "null", '{"a": 1, "b": {"sha256": 2}}', "[" * 9999]


@pytest.mark.parametrize("text", NONSENSE)
def test_a_memory_that_is_nonsense_is_made_anew(model: Path, memory: Memory, text: str) -> None:
    memory.path.parent.mkdir()
    memory.path.write_text(text)

    digest = sha256_of_model(*stored(model), print, memory)

    assert [entry["sha256"] for entry in memory.read().values()] == [digest]


def test_a_memory_that_cannot_be_written_costs_only_time(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert sha256_of_model(*stored(model), print, Memory(tmp_path / "file" / "x", from_bytes=0))


def test_the_oldest_are_forgotten(memory: Memory, tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        (tmp_path / name).write_bytes(b"abc")
        sha256_of_model(*stored(tmp_path / name), print, memory)

    assert [Path(name).name for name in memory.read()] == ["2", "3"]


def test_a_split_model_is_all_its_parts(tmp_path: Path) -> None:
    for number, data in ((1, b"a"), (2, b"b")):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(data)
    first = stored(tmp_path / "m-00001-of-00002.gguf", parts=2)

    assert sha256_of_model(*first, print) == hashlib.sha256(b"ab").hexdigest()


def test_a_file_that_is_gone_has_none(tmp_path: Path) -> None:
    assert sha256_of_model(*stored(tmp_path / "gone.gguf"), print) is None


def test_whoever_is_told_may_end_it(model: Path, tmp_path: Path) -> None:
    def enough(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sha256_of_model(*stored(model), enough)
