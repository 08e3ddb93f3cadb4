"""Why a prompt is not kept, told where somebody looks at the figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.answer import Result, Timings
from fwlocal.oneshot.keeping import why_not_kept

GIB = 1 << 30

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What FWLOCAL_CACHE names, not there yet."""
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "prompts"))
    return tmp_path / "prompts"


def read(n_tokens: int = 2000, reused: int = 0, prefill_s: float = 3.0) -> Result:
    """An answer to a prompt that was read in that time."""
    timings = Timings(0.1, prefill_s, prefill_s, 1.0, 500.0, 10.0)
    return Result("ho", (), "stop", n_tokens, 2, reused, 1, timings)


def test_a_prompt_that_is_kept(cache: Path) -> None:
    assert why_not_kept(read(), GIB) == ""


def test_a_folder_that_is_none(cache: Path) -> None:
    cache.write_text("a file")

    assert why_not_kept(read(), GIB) == f"{cache} is no folder"
    assert why_not_kept(read(reused=1900), GIB) == "", "it was there"
    assert why_not_kept(read(n_tokens=200), GIB) == "", "nobody would keep it"
    assert why_not_kept(read(prefill_s=0.1), GIB) == ""
    assert why_not_kept(replace(read(), completion_tokens=0), GIB) == "", "it was stopped"


def test_a_cache_that_is_off(cache: Path, home: Path) -> None:
    assert why_not_kept(read(), 0) == "", "--no-cache was asked for"
    (home.parent / "config").mkdir()
    (home.parent / "config" / "config.toml").write_text('prefix_cache = "0"\n')

    assert why_not_kept(read(), 0) == "the prefix cache is off"
