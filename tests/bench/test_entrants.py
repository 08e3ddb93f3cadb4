"""Files become entrants: their labels, their order, what they were made of, and the reference."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import pytest
from gguf import GGMLQuantizationType as Type

from fwlocal.bench.entrants import Entry, choose_reference, entrants_of
from fwlocal.bench.measured import Entrant
from fwlocal.errors import UsageError
from fwlocal.store import ModelFile
from tests import tiny_llama
from tests.tiny_llama import Shape

SHAPE = Shape(num_hidden_layers=1)


def level(
    path: Path, kind: Type = Type.F16, *, made_of: str = "", origin: str = "", matrix: str = ""
) -> ModelFile:
    """A tiny model, its matrices in one type; as the converter notes what it was made of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    tiny_llama.add_sizes(writer, SHAPE)
    tiny_llama.add_vocabulary(writer, tiny_llama.vocabulary())
    notes = {"fwlocal.source.files": made_of, "fwlocal.origin.files": origin}
    for key, name in notes.items():
        if name:
            writer.add_array(key, [name])
    if matrix:
        writer.add_string("quantize.imatrix.file", matrix)
    for name, tensor in tiny_llama.checkpoint(SHAPE).items():
        own = kind if tensor.ndim > 1 else Type.F32
        data = gguf.quants.quantize(tensor, own)
        writer.add_tensor(tiny_llama.gguf_name(name), data, raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelFile(path.stem, path)


def entered(*files: ModelFile) -> tuple[Entrant, ...]:
    """Those files, all of which can be read."""
    entrants, problems = entrants_of(map(Entry, files))
    assert not problems
    return entrants


def labels(entrants: tuple[Entrant, ...]) -> list[str]:
    return [entrant.label for entrant in entrants]


def test_levels_are_the_labels_the_best_first(tmp_path: Path) -> None:
    small = level(tmp_path / "whale-Q4_0.gguf", Type.Q4_0)
    best = level(tmp_path / "whale.f16.gguf", Type.F16)
    middle = level(tmp_path / "whale-Q8_0.gguf", Type.Q8_0)
    assert labels(entered(small, best, middle)) == ["F16", "Q8_0", "Q4_0"]


def test_files_of_one_level_are_told_apart(tmp_path: Path) -> None:
    one = level(tmp_path / "a-Q8_0.gguf", Type.Q8_0)
    other = level(tmp_path / "b-Q8_0.gguf", Type.Q8_0)
    assert sorted(labels(entered(one, other))) == ["a-Q8_0", "b-Q8_0"]
    namesake = level(tmp_path / "there" / "a-Q8_0.gguf", Type.Q8_0)
    assert sorted(labels(entered(one, namesake))) == sorted([str(one.path), str(namesake.path)])


def test_the_same_level_by_a_matrix(tmp_path: Path) -> None:
    plain = level(tmp_path / "a-Q4_0.gguf", Type.Q4_0)
    with_matrix = level(tmp_path / "b-Q4_0.gguf", Type.Q4_0, matrix="whale.imatrix")
    assert sorted(labels(entered(plain, with_matrix))) == ["Q4_0", "Q4_0+imatrix"]


def test_a_file_takes_part_once(tmp_path: Path) -> None:
    file = level(tmp_path / "a-Q8_0.gguf", Type.Q8_0)
    (tmp_path / "there").mkdir()
    again = ModelFile("a", tmp_path / "there" / ".." / file.path.name)
    assert len(entered(file, again)) == 1
    copy = tmp_path / "copy-Q8_0.gguf"
    copy.write_bytes(file.path.read_bytes())
    assert len(entered(file, ModelFile("copy", copy))) == 2


def test_a_damaged_file_is_no_end(tmp_path: Path) -> None:
    good = level(tmp_path / "a-Q8_0.gguf", Type.Q8_0)
    bad = tmp_path / "a-Q4_0.gguf"
    bad.write_bytes(good.path.read_bytes()[:5000])
    entrants, problems = entrants_of([Entry(ModelFile("a", bad)), Entry(good)])
    assert labels(entrants) == ["Q8_0"]
    assert list(problems) == ["Q4_0"]
    assert str(bad) in problems["Q4_0"]
    assert "\n" not in problems["Q4_0"]


@pytest.mark.parametrize(
    ("made_of", "origin", "is_derived"),
    [
        ("", "", False),
        ("whale-F16.gguf", "", False),
        ("model-00001-of-00002.safetensors", "", False),
        ("whale-Q4_1.gguf", "", True),
        ("whale.q8_0.GGUF", "", True),
        ("whale-F16.gguf", "whale-Q4_1.gguf", True),
        ("whale-F16.gguf", "model.safetensors", False),
    ],
)
def test_a_file_tells_what_it_was_made_of(
    tmp_path: Path, made_of: str, origin: str, is_derived: bool
) -> None:
    file = level(tmp_path / "w-Q8_0.gguf", Type.Q8_0, made_of=made_of, origin=origin)
    (entrant,) = entered(file)
    assert entrant.is_derived == is_derived


def test_what_the_caller_knows_of_a_file(tmp_path: Path) -> None:
    file = level(tmp_path / "model.gguf", Type.Q8_0, made_of="nameless.gguf")
    ((entrant,), _) = entrants_of([Entry(file, "Q8_0+imatrix", is_derived=True)])
    assert entrant.label == "Q8_0+imatrix"
    assert entrant.is_derived


def test_the_reference_is_the_best_that_was_not_requantized(tmp_path: Path) -> None:
    own = level(tmp_path / "w-Q4_1.gguf", Type.Q4_1)
    small = level(tmp_path / "w-Q4_0.gguf", Type.Q4_0, made_of="w-Q4_1.gguf")
    large = level(tmp_path / "w-Q8_0.gguf", Type.Q8_0, made_of="w-Q4_1.gguf")
    assert choose_reference(entered(large, own, small)).label == "Q4_1"
    assert choose_reference(entered(small, large)).label == "Q8_0"


def test_the_reference_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = level(tmp_path / "a-Q8_0.gguf", Type.Q8_0)
    other = level(tmp_path / "b-Q4_0.gguf", Type.Q4_0)
    entrants = entered(one, other)
    monkeypatch.chdir(tmp_path)
    for named in ("Q4_0", "q4_0", "b-Q4_0", "b-Q4_0.gguf", str(other.path), "./b-Q4_0.gguf"):
        assert choose_reference(entrants, named).file.path == other.path
    with pytest.raises(UsageError, match=r"--reference F16: is not .*: Q8_0, Q4_0$"):
        choose_reference(entrants, "F16")


def test_a_level_may_mean_more_than_one_reference(tmp_path: Path) -> None:
    files = [
        ModelFile(name, level(tmp_path / f"{name}-Q8_0.gguf", Type.Q8_0).path, None, "Q8_0")
        for name in ("a", "b")
    ]
    with pytest.raises(UsageError, match="may be any of a-Q8_0, b-Q8_0"):
        choose_reference(entered(*files), "Q8_0")
    with pytest.raises(UsageError, match="no level"):
        choose_reference(())


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    file = level(tmp_path / "a-Q8_0.gguf", Type.Q8_0)
    link = tmp_path / "link-Q8_0.gguf"
    link.symlink_to(file.path)
    assert len(entered(file, ModelFile("link", link))) == 1
