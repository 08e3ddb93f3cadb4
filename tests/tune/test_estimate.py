"""How long it takes is told from what one trial costs; by runs that are made up here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.bench.result import SpeedTest
from fwlocal.loader import EngineOptions
from fwlocal.tune.decision import Pair
from fwlocal.tune.descent import answer
from fwlocal.tune.estimate import Cost, Span, about, span
from fwlocal.tune.questions import Candidate, Question

COST = Cost(making_s=3.0, trial_s=2.0)


def asking(n_candidates: int, slower: float = 1.0) -> Question:
    candidates = (Candidate(str(n), {"n_threads": n}, slower) for n in range(2, 2 + n_candidates))
    return Question("n_threads", "1", tuple(candidates), (SpeedTest(0, 16),))


class Machine:
    """Every candidate is ``ratio`` times as fast; counts the seconds that it would have taken."""

    def __init__(self, ratio: float, cost: Cost) -> None:
        self.ratio, self.cost, self.spent_s = ratio, cost, cost.making_s  # of the best's context

    def __call__(
        self, question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
    ) -> list[Pair]:
        self.spent_s += self.cost.making_s + 2 * n_pairs * self.cost.trial_s
        return [Pair((self.ratio,), (1.0,))] * n_pairs


def spent_s(questions: Sequence[Question], ratio: float, cost: Cost, n_pairs: int) -> float:
    total_s = 0.0
    for question in questions:
        machine = Machine(ratio, cost)
        answer(question, EngineOptions(n_threads=1), machine, n_pairs)
        total_s += machine.spent_s
    return total_s


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.booleans(),
    st.integers(2, 6),
    st.builds(Cost, st.floats(0.01, 100), st.floats(0.01, 100)),
)
def test_it_is_right_within_a_factor_of_two(
    counts: list[int], is_faster: bool, n_pairs: int, cost: Cost
) -> None:
    questions = [asking(count) for count in counts]
    told_s = about(span(question, cost, n_pairs) for question in questions)

    real_s = spent_s(questions, 1.5 if is_faster else 0.5, cost, n_pairs)

    assert 0.49 < told_s / real_s < 2.01


@pytest.mark.parametrize(("ratio", "end"), [(0.5, "least_s"), (1.5, "most_s")])
def test_the_ends_of_a_span_are_reached(ratio: float, end: str) -> None:
    question = asking(3)

    assert getattr(span(question, COST, 6), end) == spent_s([question], ratio, COST, 6)


def test_making_a_context_counts_and_so_does_a_slow_candidate() -> None:
    plain = span(asking(1), COST, 6)

    assert span(asking(1), replace(COST, making_s=5.0), 6).least_s == plain.least_s + 2 * 2.0
    assert span(asking(1, slower=2.0), COST, 6).least_s == plain.least_s + 3.0 + 2 * 2.0


def test_nothing_to_try_takes_no_time() -> None:
    assert span(Question("numa", "none"), COST, 6) == Span(0.0, 0.0)
    assert about([]) == 0
