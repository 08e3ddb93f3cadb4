"""The comparison of a pair with what is predicted, by a pair of a moment's work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.draft.compare_pair import measured
from tests.draft.machine import PairAtWork, opened_pair


@pytest.fixture(scope="module")
def pair() -> Iterator[PairAtWork]:
    with opened_pair(1, n_target_layers=4, n_draft_layers=1, intermediate_size=288) as at_work:
        yield at_work


@pytest.mark.parametrize("number", [0, 1])
def test_costs_and_agreement_are_those_of_the_answers(pair: PairAtWork, number: int) -> None:
    found = measured(pair, 3, number)

    assert min(found.batch_s, found.draft_s, found.ratio) > 0
    assert found.rest_s >= 0
    assert 0.5 < found.share < 0.7
    n_tokens = 1 + found.share + found.share**2
    seconds = found.batch_s + found.draft_s + n_tokens * found.rest_s
    assert found.predicted(3) == pytest.approx(n_tokens / seconds)
