"""An empty cache on a machine of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prefix_cache.kept import Machine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The cache's folder, which is not there yet."""
    return tmp_path / "cache" / "prefixes"


@pytest.fixture
def machine(root: Path) -> Machine:
    """A cache of a MiB."""
    return Machine(root)
