"""safetensors files: read as the safetensors library reads them, damaged ones refused."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from convert.sources.safetensors_file import SafetensorsFile
from convert.sources.tensors import FLOATS
from convert.sources.weight_file import WeightFile
from fwlocal.errors import BadCheckpoint
from tests.convert.checkpoints import DTYPES, cast, safetensors_bytes, write_safetensors
from tests.convert.refused import refused

Array = npt.NDArray[Any]
deserialize: Any = safetensors.deserialize

in_tmp_path = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def read_all(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """dtype, shape and bytes of every tensor of floats, and of any other the first two."""
    found = {}
    with closing(SafetensorsFile(WeightFile(path))) as source:
        for name, tensor in source.tensors.items():
            found[name] = (tensor.dtype, tensor.shape, b"")
            if tensor.dtype in FLOATS:
                data = source.read_rows(name, 0, tensor.n_rows).tobytes()
                found[name] = (tensor.dtype, tensor.shape, data)
    return found


def test_a_file_of_the_library(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors: dict[str, Array] = {
        "matrix": random.normal(size=(5, 8)).astype(np.float32),
        "half": random.normal(size=(4, 3, 2)).astype(np.float16),
        "vector": random.normal(size=7).astype(np.float32),
        "scalar": np.full((), 2.5, np.float32),
        "nothing": np.zeros((0, 4), np.float32),
        "buffer": np.arange(3),
    }
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    found = read_all(path)
    with safetensors.safe_open(path, "np") as library:
        assert found.keys() == set(library.keys()) == tensors.keys()
        for name in library.keys():  # noqa: SIM118 (it is no dict)
            theirs = library.get_tensor(name)
            dtype, shape, data = found[name]
            assert (dtype, shape) == (DTYPES[theirs.dtype.name], theirs.shape or (1,))
            assert data == (theirs.tobytes() if dtype in FLOATS else b"")


@in_tmp_path
@given(
    dtype=st.sampled_from(FLOATS),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 9),
)
def test_any_range_of_rows(
    dtype: str, shape: list[int], ends: tuple[float, float], seed: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(seed)
    array = cast(random.normal(size=shape).astype(np.float32), dtype)
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"before": random.normal(size=3), "t": array, "after": array})
    rows = array.reshape(math.prod(shape[:-1]), shape[-1])
    first, last = sorted(round(end * len(rows)) for end in ends)
    with closing(SafetensorsFile(WeightFile(path))) as source:
        assert (source.tensors["t"].n_rows, source.tensors["t"].n_per_row) == rows.shape
        assert source.read_rows("t", first, last - first).tobytes() == rows[first:last].tobytes()
    theirs = dict(deserialize(path.read_bytes()))["t"]
    assert (theirs["dtype"], theirs["shape"], theirs["data"]) == (dtype, shape, array.tobytes())


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
BAD_ENTRIES: Mapping[str, tuple[Any, str]] = {
    "no object": ([1], "its entry must hold"),
    "no dtype": ({"shape": [6], "data_offsets": [0, 24]}, "its entry must hold"),
    "one key more": ({**ENTRY, "strides": [3, 1]}, "its entry must hold"),
    "unknown dtype": ({**ENTRY, "dtype": "F31"}, "unknown dtype 'F31'"),
    "dtype no text": ({**ENTRY, "dtype": ["F32"]}, "unknown dtype"),
    "another length": ({**ENTRY, "shape": [2, 2]}, "needs 16 bytes, its offsets give 24"),
    "another dtype": ({**ENTRY, "dtype": "F16"}, "in F16 needs 12 bytes, its offsets give 24"),
    "offsets reversed": ({**ENTRY, "data_offsets": [24, 0]}, "its offsets give -24"),
    "three offsets": ({**ENTRY, "data_offsets": [0, 12, 24]}, "no lists of sizes"),
    "negative offset": ({**ENTRY, "data_offsets": [-24, 0]}, "no lists of sizes"),
    "overflowing offset": ({**ENTRY, "data_offsets": [2**64 - 24, 2**64]}, "no lists of sizes"),
    "negative size": ({**ENTRY, "shape": [-2, -3]}, "no lists of sizes"),
    "huge size": ({**ENTRY, "shape": [2**63, 1]}, "no lists of sizes"),
    "overflowing shape": ({**ENTRY, "shape": [2**32, 2**32, 6]}, f"needs {6 * 2**66} bytes"),
    "shape without end": ({**ENTRY, "shape": [2**62] * 10**5}, "no lists of sizes"),
    "float size": ({**ENTRY, "shape": [2.0, 3]}, "no lists of sizes"),
    "NaN size": ({**ENTRY, "shape": [math.nan, 3]}, "no lists of sizes"),
    "text size": ({**ENTRY, "shape": ["2", 3]}, "no lists of sizes"),
    "bool size": ({**ENTRY, "shape": [True, 6]}, "no lists of sizes"),
    "bool offset": ({**ENTRY, "data_offsets": [False, 24]}, "no lists of sizes"),
    "shape no list": ({**ENTRY, "shape": {"0": 6}}, "no lists of sizes"),
    "gap before": ({**ENTRY, "data_offsets": [4, 28]}, "leaves a gap"),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_an_impossible_entry_is_named(case: str, tmp_path: Path) -> None:
    entry, what = BAD_ENTRIES[case]
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes({"w.weight": entry}, bytes(24)))
    refused(lambda: SafetensorsFile(WeightFile(path)), path, "w.weight", what, "fetch or copy")


@pytest.mark.parametrize(
    ("offsets", "data", "what"),
    [
        ([[0, 24], [20, 44]], 44, "b overlaps the one before"),
        ([[0, 24], [0, 24]], 24, "b overlaps the one before"),
        ([[0, 24], [28, 52]], 52, "b leaves a gap"),
        ([[0, 24], [24, 48]], 47, "truncated: {} bytes expected, {} on disk"),
        ([[0, 24], [24, 48]], 0, "truncated: {} bytes expected, {} on disk"),
        ([[0, 24], [24, 48]], 49, "longer than its header says: {} bytes expected, {} on disk"),
    ],
)
def test_the_data_must_be_whole(
    offsets: list[list[int]], data: int, what: str, tmp_path: Path
) -> None:
    header = {name: {**ENTRY, "data_offsets": at} for name, at in zip("ab", offsets, strict=True)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(header, bytes(data)))
    expected = len(safetensors_bytes(header)) + 48
    actual = path.stat().st_size
    refused(
        lambda: SafetensorsFile(WeightFile(path)),
        path,
        what.format(expected, actual),
        "fetch or copy",
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "only 0 bytes"),
        (b"1234567", "only 7 bytes"),
        ((100).to_bytes(8, "little") + b"{}", "a header of 100 bytes expected, the file has 10"),
        ((100_000_001).to_bytes(8, "little") + b"{}", "over 100 MB"),
        (b"\xff" * 64, "over 100 MB"),
        (safetensors_bytes(b"no JSON"), "header: no valid JSON"),
        (safetensors_bytes(b"\xff{}"), "header: no valid JSON"),
        (safetensors_bytes(b"[" * 5000), "header: no valid JSON"),
        (safetensors_bytes([1, 2]), "no JSON object"),
        (safetensors_bytes(b'{"a": 1, "a": 2}'), "the key 'a' stands there twice"),
        (safetensors_bytes({"a\n\x1b[2J": ENTRY}, bytes(24)), "name is not printable"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    ],
)
def test_what_is_no_safetensors_file(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    assert "fetch" in refused(lambda: SafetensorsFile(WeightFile(path)), path, what)


def make_missing(path: Path) -> None:
    """No file at all."""


SPECIAL: dict[str, Callable[[Path], object]] = {"missing": make_missing, "folder": Path.mkdir}
if hasattr(os, "mkfifo"):
    SPECIAL["fifo"] = os.mkfifo


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    SPECIAL[kind](path)
    refused(lambda: SafetensorsFile(WeightFile(path)), path)


def test_a_file_that_shrinks_later(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": np.zeros((4, 8), np.float32)})
    size = path.stat().st_size
    with closing(SafetensorsFile(WeightFile(path))) as source:
        os.truncate(path, size - 40)
        assert source.read_rows("a", 0, 2).tobytes() == bytes(64)
        refused(
            lambda: source.read_rows("a", 2, 2), path, f"{size} bytes expected, {size - 40} on disk"
        )


SMALL = safetensors_bytes(
    {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [3], "data_offsets": [8, 20]},
    },
    bytes(range(20)),
)


@settings(in_tmp_path, max_examples=400)
@example(flips=[], size=len(SMALL))
@given(
    flips=st.lists(
        st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=3
    ),
    size=st.one_of(st.just(len(SMALL)), st.integers(0, len(SMALL))),
)
def test_damage_is_refused_or_read(flips: list[tuple[int, int]], size: int, tmp_path: Path) -> None:
    data = bytearray(SMALL)
    for position, byte in flips:
        data[position] = byte
    path = tmp_path / "a.safetensors"
    path.write_bytes(data[:size])
    problem, found = "", None
    try:
        found = read_all(path)
    except BadCheckpoint as error:
        problem = str(error)
    if found is None:
        assert str(path) in problem
        assert problem.isprintable()
        assert data[:size] != SMALL
    else:
        length = int.from_bytes(data[:8], "little")
        assert found.keys() == json.loads(data[8 : 8 + length]).keys() - {"__metadata__"}
