"""What callers may ask is checked, in one line each, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fwlocal
from fwlocal.config import Config
from fwlocal.errors import UsageError
from fwlocal.loader import EngineOptions


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lookup": "off"}, "lookup is 'off'; it must be True or False"),
        ({"lookup": None}, "lookup is None; it must be True or False"),
        ({"tuned": 1}, "tuned is 1; it must be True or False"),
        ({"brief": "no"}, "brief is 'no'; it must be True or False"),
        ({"lossless": "on"}, "lossless is 'on'; it must be True, False or None"),
        ({"prefix_bytes": -1}, "prefix_bytes is -1; it must be at least 0"),
        ({"prefix_bytes": "4G"}, "prefix_bytes is '4G'; it must be a whole number"),
        ({"n_threads": True}, "n_threads is True; it must be a whole number"),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as error:
        EngineOptions(**options)

    assert str(error.value) == says


def test_what_is_left_out_is_as_in_config_toml() -> None:
    assert EngineOptions().prefix_bytes == Config().prefix_cache_bytes == 4 << 30
    assert EngineOptions(lossless=None, lookup=False, prefix_bytes=0).lossless is None


@pytest.mark.usefixtures("home")
def test_a_draft_of_none(tiny_gguf: Path) -> None:
    options: dict[str, Any] = {"n_threads": 1, "prompt_format": "chatml", "prefix_bytes": 0}

    with fwlocal.load(str(tiny_gguf), draft=None, **options) as engine:
        assert list(engine.generate([5], max_tokens=2))
    wrong: Any = False
    with pytest.raises(UsageError, match='draft is False; it must be a model, "auto" or "off"'):
        fwlocal.load(str(tiny_gguf), draft=wrong, **options)
