"""The manifests of what a conversion has put into the models folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from convert.display import summary
from convert.run import Outcome
from fwlocal.cli.recording import record


@pytest.fixture
def wrote(home: Path) -> Path:
    """Where a file was written that another process has removed."""
    (home / "mine").mkdir(parents=True)
    return home / "mine" / "mine-Q8_0.gguf"


def test_what_was_removed_meanwhile_gets_no_manifest(wrote: Path) -> None:
    level = SimpleNamespace(level=SimpleNamespace(name="Q8_0"), files=[SimpleNamespace(path=wrote)])
    request = SimpleNamespace(out=wrote.parent, location=None)
    work = SimpleNamespace(request=request, levels=[level])

    record(cast(Any, work), [wrote])

    assert list(wrote.parent.iterdir()) == []


def test_nor_is_its_size_told(wrote: Path) -> None:
    assert summary(Outcome((wrote,), ()), 1.0).startswith("wrote 1 file, 0 bytes")
