"""The layout of the files, as gguf's writer lays them out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.job import Job, Request, prepare
from convert.plan import PlannedLevel
from convert.recipes import LEVELS
from convert.sources.checkpoint import locate
from convert.writer import UNKNOWN, header_bytes, with_hashes
from tests.convert.checkpoints import write_checkpoint
from tests.tiny_llama import Shape

SHAPE = Shape(96, 160, 2, 3, 1, vocab_size=512)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose widths leave gaps to pad."""
    return write_checkpoint(tmp_path_factory.mktemp("plan") / "m", SHAPE)


def planned(source: Path, level: str, split_bytes: int = 0) -> tuple[Job, PlannedLevel]:
    """One level, planned."""
    out = source.parent / "out"
    request = Request(locate(str(source)), (LEVELS[level],), out, split_bytes=split_bytes)
    job = prepare(request)
    job.close()
    return job, job.levels[0]


def test_offsets_and_sizes_are_those_of_the_file(source: Path, tmp_path: Path) -> None:
    job, level = planned(source, "Q8_0")
    (plan,) = level.files
    header = header_bytes(plan, 1)
    path = tmp_path / "m.gguf"
    path.write_bytes(header + bytes(plan.data_bytes))
    reader = gguf.GGUFReader(path)
    assert [t.name for t in reader.tensors] == [t.tensor.name for t in plan.tensors]
    for found, expected in zip(reader.tensors, plan.tensors, strict=True):
        assert found.data_offset == len(header) + expected.offset
        assert found.n_bytes == expected.size_bytes
        assert tuple(found.shape) == expected.tensor.shape[::-1]
    elements = sum(int(np.prod(t.shape)) for t in reader.tensors)
    assert level.bits_per_weight == 8 * level.size_bytes / elements
    assert job.files == level.files


def test_hashes_fill_their_places_alone(source: Path) -> None:
    _, level = planned(source, "Q8_0")
    header = header_bytes(level.files[0], 2)
    sources, tensors = ["a" * 64, "b" * 64], ["c" * 64] * len(level.tensors)
    filled = with_hashes(header, sources, tensors)
    assert len(filled) == len(header)
    assert UNKNOWN.encode() not in filled
    assert (
        filled.replace(b"a" * 64, UNKNOWN.encode())
        .replace(b"b" * 64, UNKNOWN.encode())
        .replace(b"c" * 64, UNKNOWN.encode())
        == header
    )


@settings(max_examples=25, deadline=None)
@given(split_bytes=st.integers(1, 400_000))
def test_a_split_level_holds_every_tensor_once_and_no_file_more_than_asked(
    source: Path, split_bytes: int
) -> None:
    _, whole = planned(source, "Q8_0")
    _, level = planned(source, "Q8_0", split_bytes)
    assert [t.tensor.name for t in level.tensors] == [t.tensor.name for t in whole.tensors]
    for file in level.files:
        assert len(file.tensors) == 1 or file.data_bytes <= split_bytes
    count = len(level.files)
    if count > 1:
        names = [file.path.name for file in level.files]
        assert names == [f"m-Q8_0-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]
    for file, following in zip(level.files, level.files[1:], strict=False):
        assert file.data_bytes + following.tensors[0].size_bytes > split_bytes


def test_a_plan_gives_its_source_back(source: Path) -> None:
    job = prepare(Request(locate(str(source)), (LEVELS["F16"],), source.parent))
    with closing(job.model.source):
        assert job.source_bytes == (source / "model.safetensors").stat().st_size
