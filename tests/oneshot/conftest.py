"""``fwlocal run`` on the tiny model, in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.here import running_here


@pytest.fixture(autouse=True)
def _folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty store, and a working folder with two sources."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("the sea\n")
    (tmp_path / "src" / "b.py").write_text("the whale sings\n")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The program, in this process."""
    with running_here(monkeypatch, capsys) as run:
        yield run


@pytest.fixture
def ask(here: Run, tiny_gguf: Path) -> Run:
    """``fwlocal run`` on the tiny model."""

    def run(*arguments: str | Path, stdin: str | bytes = "") -> Any:
        always = ("-m", tiny_gguf, "--max-tokens", "6", "--seed", "1")
        return here("run", *always, *arguments, stdin=stdin)

    return run


@pytest.fixture
def record(ask: Run) -> Any:
    """What ``--json`` says."""

    def run(*arguments: str | Path, stdin: str = "") -> Any:
        return json.loads(ask("--json", *arguments, stdin=stdin).stdout)

    return run
