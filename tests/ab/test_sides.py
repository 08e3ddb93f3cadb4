"""Which two models /ab means, and what it says of those that are not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal.ab.sides import find_sides
from fwlocal.errors import FwlocalError, ModelNotFound, UsageError
from fwlocal.loader import EngineOptions, Library, LoadedModel, load, open_file
from fwlocal.registry import load_registry
from fwlocal.store import Store
from tests import tiny_llama
from tests.ab.levels import FORMAT, stored, write_level


@pytest.fixture
def whales(home: Path) -> Library:
    """Two levels of a model in the store."""
    for level in ("Q4_0", "Q8_0"):
        stored(home, level)
    return Library(load_registry(), Store(home))


@pytest.fixture
def loaded(whales: Library) -> Iterator[LoadedModel]:
    file, header = open_file("whale:Q4_0", whales)
    model = load(file, header, EngineOptions(prompt_format=FORMAT, n_threads=1))
    with model.engine:
        yield model


def test_two_levels_of_the_model_that_answers(loaded: LoadedModel, whales: Library) -> None:
    left, right = find_sides(["q8_0", "Q4_0"], loaded, whales)

    assert (left.label, right.label) == ("Q8_0", "Q4_0")
    assert (left.is_loaded, right.is_loaded) == (False, True)
    assert left.size_bytes == Path(left.model).stat().st_size
    assert left.prompt_format == FORMAT
    assert left.header.has_tokens_of(right.header)


def test_one_name_is_compared_with_the_model_that_answers(
    loaded: LoadedModel, whales: Library
) -> None:
    left, right = find_sides(["Q8_0"], loaded, whales)

    assert (left.label, right.label) == ("Q4_0", "Q8_0")
    assert left.is_loaded


def test_another_model_has_its_own_format_and_tokens(
    loaded: LoadedModel, whales: Library, home: Path, tmp_path: Path
) -> None:
    extra = (("<odd>", 0.0, 4),)
    other = tiny_llama.write_gguf(
        tmp_path / "squid.gguf",
        tiny_llama.Shape(vocab_size=tiny_llama.Shape().vocab_size + 1),
        extra_tokens=extra,
        template="{{ messages[0].content }}",
    )
    stored(home, "Q8_0", "dolphin")

    left, right = find_sides([str(other), "dolphin:Q8_0"], loaded, whales)

    assert (left.label, right.label) == ("squid", "dolphin:Q8_0")
    assert left.prompt_format is None
    assert right.prompt_format == FORMAT  # one vocabulary and one template: a level by another name
    assert not left.header.has_tokens_of(loaded.header)
    assert right.header.has_tokens_of(loaded.header)


def test_files_beside_each_other_are_levels_of_one_model(whales: Library, tmp_path: Path) -> None:
    path = write_level(tmp_path / "squid-Q4_0.gguf", "Q4_0")
    write_level(tmp_path / "squid-Q8_0.gguf", "Q8_0")
    file, header = open_file(str(path), whales)
    model = load(file, header, EngineOptions(prompt_format=FORMAT, n_threads=1))
    with model.engine:
        left, right = find_sides(["Q8_0"], model, whales)
        with pytest.raises(ModelNotFound, match=r"squid-Q5_0.gguf: no such file"):
            find_sides(["Q5_0"], model, whales)

    assert (left.label, right.label) == ("squid-Q4_0", "squid-Q8_0")
    assert right.prompt_format == FORMAT


@pytest.mark.parametrize(
    ("names", "error", "says"),
    [
        (["Q4_0"], UsageError, "Q4_0 is compared with itself"),
        (["Q8_0", "whale:q8_0"], UsageError, "Q8_0 is compared with itself"),
        (["Q5_K_M"], ModelNotFound, "whale has no level 'Q5_K_M' on this disk"),
        (["wale"], ModelNotFound, "did you mean whale"),
        (["freewilly2:Q8_0"], ModelNotFound, "`fwlocal pull freewilly2:Q8_0`"),
        (["smollm2-135m"], ModelNotFound, "`fwlocal pull smollm2-135m:Q4_1`"),
        (["/none.gguf"], ModelNotFound, "no such file"),
    ],
)
def test_what_cannot_be_compared(
    loaded: LoadedModel, whales: Library, names: list[str], error: type[FwlocalError], says: str
) -> None:
    with pytest.raises(error, match=says):
        find_sides(names, loaded, whales)


def test_a_pulled_model_says_where_its_other_levels_are(
    loaded: LoadedModel, whales: Library, home: Path
) -> None:
    file = home / "whale" / "whale-Q4_0.gguf"
    manifest = {
        "name": "whale",
        "level": "Q4_0",
        "files": [{"name": file.name, "size_bytes": file.stat().st_size, "sha256": None}],
        "road": "download",
        "source": "deep/Whale-GGUF",
    }
    (home / "whale" / "whale-Q4_0.json").write_text(json.dumps(manifest))

    with pytest.raises(ModelNotFound, match=r"pull deep/Whale-GGUF:Q6_K --name whale`"):
        find_sides(["q6_k"], loaded, whales)
