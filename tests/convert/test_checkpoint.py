"""Checkpoints: which files are the weights, read as one source; what is wrong with them, named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.sources.checkpoint import locate, open_checkpoint
from convert.sources.tensors import FLOATS, TensorSource
from tests.convert.checkpoints import SHAPE, cast, write_checkpoint, write_weights
from tests.convert.refused import refused
from tests.convert.tokenizers_made_here import write_json
from tests.tiny_llama import checkpoint

Array = npt.NDArray[Any]

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = {name: np.full((2, 4), number, np.float32) for number, name in enumerate("abcd")}
STEMS = {"safetensors": "model", "bin": "pytorch_model"}
MODEL = checkpoint(SHAPE)
CASES = [(layout, dtype, shards) for layout in STEMS for dtype in FLOATS for shards in (1, 3)]


def open_folder(folder: Path) -> TensorSource:
    """All that the folder holds."""
    return open_checkpoint(locate(str(folder)))


def contents(source: TensorSource) -> dict[str, float]:
    """The first element of each tensor of WEIGHTS."""
    with closing(source):
        return {name: source.read_rows(name, 0, 1).view("<f4")[0] for name in source.tensors}


ALL = {name: float(array[0, 0]) for name, array in WEIGHTS.items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """The same model in every layout, dtype and number of shards."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        case: write_checkpoint(
            folder / "-".join(map(str, case)),
            layout=case[0],
            dtype=case[1],
            shards=case[2],
            tokenizer=False,
        )
        for case in CASES
    }


@settings(deadline=None, max_examples=150)
@given(
    case=st.sampled_from(CASES),
    name=st.sampled_from(sorted(MODEL)),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_rows_of_any_tensor(
    case: tuple[str, str, int], name: str, ends: tuple[float, float], folders: dict[Any, Path]
) -> None:
    rows = cast(np.atleast_2d(MODEL[name]), case[1])
    first, last = sorted(round(end * len(rows)) for end in ends)
    with closing(open_folder(folders[case])) as source:
        assert source.tensors.keys() == MODEL.keys()
        assert source.tensors[name].shape == MODEL[name].shape
        assert source.tensors[name].dtype == case[1]
        assert len(source.files) == case[2]
        assert source.read_rows(name, first, last - first).tobytes() == rows[first:last].tobytes()


@pytest.mark.parametrize("layout", STEMS)
def test_shards_without_an_index_are_found_by_name(layout: str, tmp_path: Path) -> None:
    paths = write_weights(tmp_path, WEIGHTS, layout=layout, shards=3, index=False)
    assert contents(open_folder(tmp_path)) == ALL
    paths[1].unlink()
    refused(lambda: open_folder(tmp_path), paths[1], "missing (1 of 3", "fetch it")


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("layout", STEMS)
def test_one_file_named(layout: str, shards: int, tmp_path: Path) -> None:
    paths = write_weights(tmp_path, WEIGHTS, layout=layout, shards=shards)
    write_json(tmp_path / "model.safetensors.index.json", "not asked")
    location = locate(str(paths[-1]))
    assert (location.folder, location.weights) == (tmp_path, paths[-1])
    assert contents(open_checkpoint(location)) == ALL  # a shard stands for its set


def test_one_file_of_another_name(tmp_path: Path) -> None:
    refused(lambda: open_folder(tmp_path), tmp_path, "no weights here", "name")
    (path,) = write_weights(tmp_path, WEIGHTS, layout="bin")
    path.rename(tmp_path / "consolidated.00.pth")
    assert contents(open_folder(tmp_path)) == ALL
    (tmp_path / "other.pth").write_bytes(b"")
    refused(lambda: open_folder(tmp_path), tmp_path, "files may be the weights", "name the file")


def test_safetensors_come_before_torch(tmp_path: Path) -> None:
    write_weights(tmp_path, {"a": np.zeros((1, 1), np.float32)}, layout="bin", shards=1)
    write_weights(tmp_path, {"a": np.ones((1, 1), np.float32)}, shards=1)
    assert contents(open_folder(tmp_path)) == {"a": 1}


def test_a_missing_shard_of_an_index(tmp_path: Path) -> None:
    paths = write_weights(tmp_path, WEIGHTS, shards=4)
    for path in paths[2:]:
        path.unlink()
    refused(lambda: open_folder(tmp_path), paths[2], "missing (2 of 4 files are)", "fetch it")


@pytest.mark.parametrize("layout", STEMS)
def test_a_truncated_shard(layout: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path, WEIGHTS, layout=layout, shards=2)[1]
    size = path.stat().st_size
    os.truncate(path, size - 1)
    message = refused(lambda: open_folder(tmp_path), path, "truncated", "fetch or copy")
    if layout == "safetensors":
        assert f"{size} bytes expected, {size - 1} on disk" in message


@pytest.mark.parametrize("layout", STEMS)
def test_a_pointer_instead_of_weights(layout: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path, WEIGHTS, layout=layout, shards=2)[1]
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "utf-8")
    refused(lambda: open_folder(tmp_path), path, "Git-LFS pointer", "git lfs pull")


NOT_FILES: dict[str, Callable[[Path], object]] = {"folder": Path.mkdir}
if hasattr(os, "mkfifo"):
    NOT_FILES["fifo"] = os.mkfifo


@pytest.mark.parametrize("kind", NOT_FILES)
@pytest.mark.parametrize("layout", STEMS)
def test_no_file_where_a_shard_should_be(layout: str, kind: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path, WEIGHTS, layout=layout, shards=2)[0]
    path.unlink()
    NOT_FILES[kind](path)
    refused(lambda: open_folder(tmp_path), path, "no regular file")


def write_index(folder: Path, **changes: Any) -> Path:
    """Two shards and an index with ``changes``; None leaves a tensor out."""
    folder.mkdir(exist_ok=True)
    write_weights(folder, WEIGHTS, shards=2)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text("utf-8"))
    weight_map = {**content["weight_map"], **changes}
    content["weight_map"] = {k: v for k, v in weight_map.items() if v is not None}
    index.write_text(json.dumps(content), "utf-8")
    return index


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_an_index_and_its_shards_must_agree(tmp_path: Path) -> None:
    write_index(tmp_path, e=SECOND)
    refused(lambda: open_folder(tmp_path), tmp_path / SECOND, "e is missing", "fetch")
    write_index(tmp_path, a=SECOND)  # it is in the first
    refused(lambda: open_folder(tmp_path), tmp_path / SECOND, "a is missing", "fetch")
    write_index(tmp_path, d=None)
    refused(lambda: open_folder(tmp_path), tmp_path / SECOND, "unexpected tensor d", "fetch")


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("layout", STEMS)
def test_a_tensor_in_two_shards(layout: str, index: bool, tmp_path: Path) -> None:
    first, second = write_weights(tmp_path, WEIGHTS, layout=layout, shards=2, index=index)
    second.write_bytes(first.read_bytes())
    refused(lambda: open_folder(tmp_path), second, "a is also in", first.name, "empty folder")


@pytest.mark.parametrize(
    "file",
    [
        *("../m.safetensors", "x/../../m.safetensors", "/etc/m.safetensors", "//host/m.bin", ".."),
        *("C:\\m.safetensors", "C:m.safetensors", "..\\m.safetensors", "\\m.bin", "x\\..\\m.bin"),
        *("a\0.safetensors", "a\n.safetensors", "\x1b[2J.bin", "\ud800.bin", "", "a" * 256),
        *(5, True, ["m.safetensors"], {"m": 1}),
    ],
)
def test_an_index_entry_outside_the_folder(file: Any, tmp_path: Path) -> None:
    index = write_index(tmp_path / "m", b=file)
    write_weights(tmp_path, WEIGHTS)  # a "../m.safetensors" that could be read
    (tmp_path / "model.safetensors").rename(tmp_path / "m.safetensors")
    refused(lambda: open_folder(tmp_path / "m"), index, "b is said to be in", "fetch")


@pytest.mark.parametrize("content", [[], {}, {"weight_map": {}}, {"weight_map": ["a"]}, None])
def test_an_index_without_a_map(content: Any, tmp_path: Path) -> None:
    index = write_index(tmp_path)
    write_json(index, content)
    refused(lambda: open_folder(tmp_path), index, "no weight_map", "fetch")


def test_an_index_that_names_odd_things(tmp_path: Path) -> None:
    index = write_index(tmp_path, **{"a\nb": FIRST})
    refused(lambda: open_folder(tmp_path), index, "'a\\nb' is no tensor's name", "fetch")
    (tmp_path / "weights.npz").write_bytes(b"")
    index = write_index(tmp_path, e="weights.npz")
    refused(lambda: open_folder(tmp_path), tmp_path / "weights.npz", ".safetensors, .bin")
    index.write_text("{", "utf-8")
    refused(lambda: open_folder(tmp_path), index, "no valid JSON", "fetch")
