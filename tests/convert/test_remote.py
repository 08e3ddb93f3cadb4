"""Remote files and their stream: few requests, exact bytes, never further ahead than it may."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.sources import remote
from convert.sources.checkpoint import locate, open_checkpoint
from convert.sources.remote import Feed, RemoteWeightFile
from convert.sources.tensors import Extent
from tests.convert import torch_writer
from tests.convert.checkpoints import write_checkpoint, write_weights
from tests.convert.fake_hub import FakeRepository
from tests.convert.refused import refused
from tests.tiny_llama import Shape

SHAPE = Shape(512, 1024, 2, 8, 4, vocab_size=512)  # its matrices are far from each other


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model as one file of safetensors, and as two of torch's."""
    return {
        layout: write_checkpoint(
            tmp_path_factory.mktemp(layout), SHAPE, dtype="BF16", layout=layout, shards=shards
        )
        for layout, shards in (("safetensors", 1), ("bin", 2))
    }


def feed_of(repository: FakeRepository, window: int = 1 << 20) -> Feed:
    return Feed(repository.stream, window)


def test_a_torch_file_is_opened_with_few_requests(folders: dict[str, Path], tmp_path: Path) -> None:
    repository = FakeRepository(folders["bin"], tmp_path / "here")
    with closing(open_checkpoint(repository.location())) as source:
        n_large = sum(tensor.size_bytes > 100_000 for tensor in source.tensors.values())
    assert n_large > 12
    ends = 2 * 2  # the start and the end of each file
    assert len(repository.requests) <= ends + n_large
    assert repository.fetched_bytes < 2 * 150_000


def test_a_safetensors_file_is_opened_with_one_request(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    repository = FakeRepository(folders["safetensors"], tmp_path / "here")
    open_checkpoint(repository.location()).close()
    assert len(repository.requests) == 1


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_what_is_expected_comes_with_the_stream_alone(
    layout: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    repository = FakeRepository(folders[layout], tmp_path / "here")
    with (
        closing(open_checkpoint(repository.location())) as source,
        closing(open_checkpoint(locate(str(folders[layout])))) as local,
    ):
        source.expect(list(source.tensors))
        repository.requests.clear()
        for name, tensor in source.tensors.items():
            rows = source.read_rows(name, 0, tensor.n_rows)
            assert rows.tobytes() == local.read_rows(name, 0, tensor.n_rows).tobytes()
            source.done(name)
    assert not repository.requests
    assert repository.streams[0].fetched == sum(file.size_bytes for file in source.files)


def test_a_file_without_a_hash_is_read_at_once(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    repository = FakeRepository(folder, tmp_path / "here")
    repository.names_hashes = False
    with closing(open_checkpoint(repository.location())) as source:
        (file,) = source.files
        data = (folder / "model.safetensors").read_bytes()
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        source.expect(list(source.tensors))
        assert not repository.streams
        fetched = repository.fetched_bytes
        for name, tensor in source.tensors.items():
            rows = source.read_rows(name, 0, tensor.n_rows)
            assert rows.tobytes() == data[tensor.offset :][: tensor.size_bytes]
        assert repository.fetched_bytes == fetched == len(data)


def test_a_large_file_without_a_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MAX_UNHASHED_BYTES", 1000)
    repository = FakeRepository(write_checkpoint(tmp_path / "m"), tmp_path / "here")
    repository.names_hashes = False
    refused(lambda: open_checkpoint(repository.location()), "names no SHA-256", "fetch")


def test_a_tiny_file_is_checked_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    write_weights(tmp_path / "m", {"a": np.ones(9)})
    repository = FakeRepository(tmp_path / "m", tmp_path / "here")
    repository.wrong_byte = ("model.safetensors", repository.sizes["model.safetensors"] - 1)
    refused(lambda: open_checkpoint(repository.location()), "the Hub names (sha256")


def test_scattered_rows_come_with_one_request(tmp_path: Path) -> None:
    matrix = np.arange(600 * 700, dtype=np.float32)
    folder = tmp_path / "m"
    folder.mkdir()
    views: dict[str, Any] = {
        "plain": np.ones(50_000, np.float32),
        "turned": torch_writer.View(matrix, (600, 700), (1, 600)),
        "also": np.full(50_000, 2, np.float32),
    }
    torch_writer.save(folder / "pytorch_model.bin", views)
    repository = FakeRepository(folder, tmp_path / "here")
    with closing(open_checkpoint(repository.location())) as source:
        source.expect(["plain", "turned", "also"])
        repository.requests.clear()
        assert set(source.read_rows("plain", 0, 1).view("<f4")) == {1}
        parts = [source.read_rows("turned", first, 200) for first in (0, 200, 400)]
        rows = np.concatenate(parts).view("<f4").reshape(600, 700)
        assert np.array_equal(rows, matrix.reshape(700, 600).T)
        assert set(source.read_rows("also", 0, 1).view("<f4")) == {2}
    assert not repository.requests  # all of it came with the stream


def test_a_storage_of_two_tensors_is_read_for_each(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shared = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    tensors = {"a": shared, "b": np.ones((100, 1000), np.float32), "c": shared}
    torch_writer.save(tmp_path / "m" / "pytorch_model.bin", tensors)
    repository = FakeRepository(tmp_path / "m", tmp_path / "here")
    with closing(open_checkpoint(repository.location())) as source:
        source.expect(["a", "c", "b"])
        for name in ("a", "c", "b"):
            rows = [source.read_rows(name, first, 25) for first in range(0, 100, 25)]
            assert np.concatenate(rows).tobytes() == tensors[name].tobytes()


def test_small_pieces_come_together(folders: dict[str, Path], tmp_path: Path) -> None:
    repository = FakeRepository(folders["safetensors"], tmp_path / "here")
    file = RemoteWeightFile(repository.open("model.safetensors"), feed_of(repository))
    content = repository.contents["model.safetensors"]
    pieces = [(5_000_000, 30), (1_000_000, 30), (1_000_050, 4), (1_010_000, 30), (9_000_000, 1)]
    found = file.read_each([*pieces, pieces[0]], "pieces")
    assert [data.tobytes() for data in found] == [
        content[offset : offset + count] for offset, count in [*pieces, pieces[0]]
    ]
    assert len(repository.requests) == 3
    assert file.fetched_bytes == repository.fetched_bytes
    refused(lambda: file.read(len(content) - 5, 6, "a tensor"), "truncated at a tensor")
    assert not file.lies_at(tmp_path)
    file.close()


SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=12)


@settings(deadline=None, max_examples=200)
@given(sizes=SIZES, data=st.data(), window=st.integers(1, 4000))
def test_any_order_any_window_the_right_bytes_and_nothing_too_early(
    sizes: list[int], data: st.DataObject, window: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tensors of two files in any order, some left out, read in slices as the pipeline does."""
    here = tmp_path_factory.getbasetemp() / "stream"
    here.mkdir(exist_ok=True)
    start = remote.TAIL_BYTES  # so that no file is held in memory
    content = np.random.default_rng(0).bytes(start + sum(sizes))
    for name in ("one.bin", "two.bin"):
        (here / name).write_bytes(content if name == "one.bin" else content[::-1])
    repository = FakeRepository(here, here / "small")
    feed = feed_of(repository, window)
    files = [RemoteWeightFile(repository.open(name), feed) for name in ("one.bin", "two.bin")]
    ends = np.cumsum([start, *sizes]).tolist()
    places = [
        Extent(f"{file.path.name} {begin}", file, begin, end)
        for file in files
        for begin, end in itertools.pairwise(ends)
    ]
    wanted = data.draw(st.permutations(places))[: data.draw(st.integers(1, len(places)))]
    if data.draw(st.booleans()):
        wanted = [place for place in places if place in wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "PIECE_BYTES", 0)
        read_as_the_pipeline_does(wanted, feed, repository, max(window, start + sum(sizes)))
    assert not repository.requests


def read_as_the_pipeline_does(
    wanted: Sequence[Extent], feed: Feed, repository: FakeRepository, bound: int
) -> None:
    """In slices; what was read is done only when there is no more room."""
    feed.expect(wanted, {})
    (stream,) = repository.streams
    done_end, written = 0, list[tuple[str, int]]()
    for place in wanted:
        for begin in range(place.begin, place.end, 500):
            end = min(begin + 500, place.end)
            if not feed.has_room(place, end):
                for name, position in written:
                    feed.done(name)
                    done_end = position
                written.clear()
            buffer = np.empty(end - begin, np.uint8)
            place.file.fill(buffer, begin, place.name)
            name = place.file.path.name
            assert buffer.tobytes() == repository.contents[name][begin:end]
            assert stream.fetched <= done_end + bound
        written.append((place.name, stream.position))
    feed.close()


def test_only_one_set_of_weights_is_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", shards=2)
    write_checkpoint(folder, layout="bin", shards=2)
    repository = FakeRepository(folder, tmp_path / "here")
    with closing(open_checkpoint(repository.location())) as source:
        assert {file.path.suffix for file in source.files} == {".safetensors"}


def test_a_shard_that_the_repository_lacks(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    repository = FakeRepository(folder, tmp_path / "here")
    path = Path("owner/whale") / "model-00002-of-00003.safetensors"
    refused(lambda: open_checkpoint(repository.location()), path, "missing (1 of 3 files are)")


def test_a_damaged_shard_is_named_and_the_others_are_closed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", shards=3)
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    repository = FakeRepository(folder, tmp_path / "here")
    named = Path("owner/whale") / path.name
    refused(lambda: open_checkpoint(repository.location()), named, "truncated")
