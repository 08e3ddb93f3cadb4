"""A model in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Run


@pytest.fixture
def whale(tiny_gguf: Path, fwlocal: Run) -> str:
    """The tiny model in the store, imported."""
    done = fwlocal("import", tiny_gguf, "--name", "whale:F32")
    assert done.returncode == 0
    assert done.stderr == "fwlocal: talk to it with `fwlocal chat -m whale:F32`\n"
    return done.stdout.strip()
