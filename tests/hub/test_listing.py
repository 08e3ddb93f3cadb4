"""Levels, parts and weights, from the names that a repository has."""

from __future__ import annotations

import pytest

from fwlocal.errors import ModelNotFound, UsageError
from fwlocal.hub.listing import by_level, model_of, name_of, of_level, weight_bytes, whole
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot


def holding(*names: str) -> Snapshot:
    files = {name: HubFile(name, 10, None, "") for name in names}
    return Snapshot("owner/repo", "main", "c" * 40, "mit", files)


def test_each_level_with_its_parts() -> None:
    source = holding(
        "README.md",
        "m.Q4_K_M.gguf",
        "m.IQ3_XXS.gguf",
        "Q8_0/m-Q8_0-00001-of-00002.gguf",
        "Q8_0/m-Q8_0-00002-of-00002.gguf",
        "mmproj-m-f16.gguf",
        "m-imatrix.gguf",
        "m-imatrix.Q4_0.gguf",
    )
    assert by_level(source) == {
        "Q4_K_M": ("m.Q4_K_M.gguf",),
        "IQ3_XXS": ("m.IQ3_XXS.gguf",),
        "Q4_0": ("m-imatrix.Q4_0.gguf",),
        "Q8_0": ("Q8_0/m-Q8_0-00001-of-00002.gguf",),
    }
    parts = whole(source, of_level(source, by_level(source), "Q8_0"))
    assert [file.name.split("-")[-3] for file in parts] == ["00001", "00002"]


def test_two_models_in_one_repository() -> None:
    source = holding("a-Q4_0.gguf", "b-Q4_0.gguf")
    with pytest.raises(UsageError, match=r"several files are Q4_0 .* owner/repo/a-Q4_0\.gguf"):
        of_level(source, by_level(source), "Q4_0")


def test_a_part_brings_its_siblings() -> None:
    source = holding("x/a-00001-of-00002.gguf", "x/a-00002-of-00002.gguf")
    assert len(whole(source, "x/a-00002-of-00002.gguf")) == 2


def test_a_part_that_is_not_there() -> None:
    with pytest.raises(ModelNotFound, match="a-00002-of-00003"):
        whole(holding("a-00001-of-00003.gguf", "a-00003-of-00003.gguf"), "a-00001-of-00003.gguf")


@pytest.mark.parametrize(
    ("repo", "name"),
    [
        ("bartowski/Llama-3.2-1B-Instruct-GGUF", "Llama-3.2-1B-Instruct"),
        ("x/model.gguf", "model"),
        ("x/GGUF-tools", "GGUF-tools"),
    ],
)
def test_a_repositorys_model(repo: str, name: str) -> None:
    assert name_of(repo) == name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("stablebeluga-7b.Q4_K_M.gguf", "stablebeluga-7b"),
        ("sub/m-Q8_0-00001-of-00002.gguf", "m"),
        ("plain.gguf", "plain"),
        ("Q4_0.gguf", "Q4_0"),
    ],
)
def test_a_files_model(file: str, name: str) -> None:
    assert model_of(file) == name


def test_one_kind_of_weights_counts() -> None:
    both = holding("model-1.safetensors", "model-2.safetensors", "pytorch_model.bin", "x/y.bin")
    assert weight_bytes(both) == 20
    assert weight_bytes(holding("pytorch_model.bin", "config.json")) == 10
