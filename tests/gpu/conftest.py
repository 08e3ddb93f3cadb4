"""Two small models in the place of two large ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal.llama import ContextOptions
from tests import tiny_llama
from tests.gpu.forced import LoadedPair, opened_pair
from tests.tiny_llama import Shape


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and a draft, which know nothing of each other."""
    folder = tmp_path_factory.mktemp("pair")
    return (
        tiny_llama.write_gguf(folder / "model.gguf", Shape(num_hidden_layers=2)),
        tiny_llama.write_gguf(folder / "draft.gguf", Shape(num_hidden_layers=1), seed=1),
    )


@pytest.fixture(scope="package")
def pair(files: tuple[Path, Path]) -> Iterator[LoadedPair]:
    """Both, loaded."""
    options = ContextOptions(n_ctx=512, n_threads=1)
    with opened_pair(*files, None, options) as found:
        yield found
