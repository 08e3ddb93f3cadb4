"""The synthetic pair, in small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.draft.machine import PairAtWork, opened_pair


@pytest.fixture(scope="package")
def at_work() -> Iterator[PairAtWork]:
    """Both models, loaded."""
    sizes = {"n_target_layers": 2, "n_draft_layers": 1, "intermediate_size": 64}
    with opened_pair(1, **sizes) as found:
        yield found
