"""A load that fails on its way leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fwlocal import llama
from fwlocal.loader import EngineOptions, Library, here, load, open_file


@pytest.mark.parametrize("step", ["drafting_for", "renderer", "prefixes_for"])
def test_what_was_loaded_is_freed(
    tiny_gguf: Path, library: Library, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    models: list[llama.Model] = []
    load_weights = here.load_weights

    def noted(*arguments: Any) -> llama.Model:
        models.append(load_weights(*arguments))
        return models[-1]

    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(here, "load_weights", noted)
    monkeypatch.setattr(here, step, fails)

    with pytest.raises(MemoryError):
        load(*open_file(str(tiny_gguf), library), EngineOptions(n_threads=1, raw=True))

    (model,) = models
    with pytest.raises(RuntimeError, match="closed"):
        model.piece(5)
