"""Drafting pays where it can, and costs next to nothing where it cannot: by simulation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.draft import Controller, Kind, Speculation, Steering, Widths
from fwlocal.draft.costs import Costs
from tests.draft.fakes import PROMPT, Cache, Clock, Context, Oracle, Sampler

ANSWER = 200
KIND = Kind("some", 0.7)


class Simulated:
    """Answers one after the other, with one controller, on a device where a batch of K rows takes
    ``row_cost`` for each row after the first, and a drafted token ``token_s`` single decodes."""

    def __init__(
        self,
        row_cost: float,
        token_s: float,
        *,
        noise: float = 0.0,
        is_exact: Callable[[int], bool] | None = None,
    ) -> None:
        self._random = random.Random(0)
        self._row_cost, self._token_s, self._noise = row_cost, token_s, noise
        self._steering = Steering(Controller(), Widths(on_cpu=is_exact is not None))
        self._is_exact = is_exact or (lambda rows: True)
        self.clock = Clock()

    def _cost(self, rows: int) -> float:
        wobble = 1 + self._noise * self._random.uniform(-1, 1)
        return (1 + self._row_cost * (rows - 1)) * wobble

    def speed(self, is_right: Callable[[int], bool], n_tokens: int = ANSWER) -> float:
        """Of an answer, as a part of that of decoding one by one."""
        script = [10 + n % 50 for n in range(n_tokens + 20)]
        context = Context(script, self.clock, self._cost, self._is_exact)
        cache = Cache(context)
        self.clock.now = 0.0
        speculation = Speculation(
            cache,
            Sampler(),
            PROMPT,
            [Oracle(context, is_right, self._token_s)],
            self._steering,
            limit=n_tokens + 1,
            is_eog=lambda token: False,
            clock=self.clock,
        )
        speculation.prepare()
        steps = speculation.tokens()
        list(islice(steps, n_tokens + 1))  # the first one needs no evaluation
        steps.close()
        return n_tokens / self.clock.now


def by_chance(share: float, seed: int = 0) -> Callable[[int], bool]:
    chances = random.Random(seed)
    fates = [chances.random() < share for _ in range(5000)]
    return lambda place: fates[place]


row_costs = st.floats(0.0, 1.2)
token_costs = st.sampled_from([0.0]) | st.floats(0.01, 3.0)


@given(row_costs, token_costs, st.floats(0, 1), st.integers(0, 99))
def test_it_never_costs_much_by_chance(
    row_cost: float, token_s: float, share: float, seed: int
) -> None:
    assert Simulated(row_cost, token_s).speed(by_chance(share, seed)) >= 0.97


@given(row_costs, token_costs, st.lists(st.booleans(), min_size=1, max_size=ANSWER))
def test_it_never_costs_much_on_text_that_changes(
    row_cost: float, token_s: float, fates: Sequence[bool]
) -> None:
    simulated = Simulated(row_cost, token_s)

    assert simulated.speed(lambda place: fates[place % len(fates)]) >= 0.97


@given(st.integers(1, ANSWER), row_costs, token_costs)
def test_it_never_costs_much_when_right_drafts_turn_wrong(
    turn: int, row_cost: float, token_s: float
) -> None:
    assert Simulated(row_cost, token_s).speed(lambda place: place < turn) >= 0.97


@settings(max_examples=20)
@given(row_costs, token_costs, st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_nor_in_any_answer_of_many(
    row_cost: float, token_s: float, shares: Sequence[float]
) -> None:
    simulated = Simulated(row_cost, token_s)

    for seed, share in enumerate(shares):
        assert simulated.speed(by_chance(share, seed)) >= 0.97


@settings(max_examples=30)
@given(row_costs, token_costs, st.floats(0.5, 1), st.sampled_from([1, 3, 8]))
def test_nor_while_it_finds_out_what_is_exact(
    row_cost: float, token_s: float, share: float, most: int
) -> None:
    simulated = Simulated(row_cost, token_s, is_exact=lambda rows: rows <= most)

    for seed in range(4):
        assert simulated.speed(by_chance(share, seed)) >= 0.97


@settings(max_examples=30)
@given(row_costs, token_costs, st.floats(0, 1))
def test_nor_where_readings_wobble(row_cost: float, token_s: float, share: float) -> None:
    simulated = Simulated(row_cost, token_s, noise=0.1)

    assert simulated.speed(by_chance(share)) >= 0.96  # the time itself wobbles by one in a hundred


def best_fixed(share: float, row_cost: float, token_s: float) -> float:
    """The speed at the best draft length, known beforehand."""
    speeds = []
    for width in range(1, 17):
        expected = sum(share**n for n in range(width))
        speeds.append(expected / (1 + row_cost * (width - 1) + token_s * (width - 1)))
    return max(speeds)


@pytest.mark.parametrize(
    ("share", "row_cost", "token_s"),
    [
        (0.95, 0.4, 0.0),
        (0.8, 0.3, 0.0),
        (0.9, 0.05, 0.1),
        (0.6, 0.03, 0.1),
        (0.8, 0.03, 0.1),
        (0.9, 0.4, 0.05),
    ],
)
def test_it_comes_close_to_the_best_length(share: float, row_cost: float, token_s: float) -> None:
    simulated = Simulated(row_cost, token_s)
    simulated.speed(by_chance(share, 1))

    speed = simulated.speed(by_chance(share, 2), 2000)

    assert speed >= 0.88 * best_fixed(share, row_cost, token_s)
    assert speed > 1.1


def test_drafts_that_become_right_are_found() -> None:
    simulated = Simulated(0.1, 0.05)
    simulated.speed(lambda place: False)

    assert simulated.speed(lambda place: True, 2000) > 2


def test_what_never_pays_is_tried_again_but_rarely() -> None:
    simulated = Simulated(0.9, 0.5)
    simulated.speed(by_chance(0.3))

    assert simulated.speed(by_chance(0.3), 4000) >= 0.98


def test_longer_drafts_for_cheaper_rows() -> None:
    lengths = []
    for row_cost in (0.9, 0.4, 0.02):
        controller = Controller(row_cost)
        for _ in range(3):
            controller.decoded(1.0)
        for width in (2, 3, 4, 8, 16) * 3:
            controller.costs.note_batch(width, 1 + row_cost * (width - 1))
        for _ in range(20):
            controller.learned(KIND, 15, 15, 6)
        lengths.append(controller.n_rows(KIND, 15, (2, 3, 4, 8, 16)))

    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]


def test_the_same_readings_give_the_same_decisions() -> None:
    speeds = {Simulated(0.2, 0.1, noise=0.2).speed(by_chance(0.7)) for _ in range(3)}

    assert len(speeds) == 1


def test_a_clock_that_jumps_does_no_harm() -> None:
    controller = Controller()
    for seconds in (1.0, 1.0, 1e6, 1.0, -50.0, 1.0):
        controller.decoded(seconds)
    for seconds in (2.0, 2.0, 2.0, 1e6, -1e6, 0.0):
        controller.tried(4, seconds)

    assert controller.costs.single_s == 1.0
    assert controller.costs.batch(4) == 2.0


def test_readings_are_believed_by_half_when_they_are_few_or_old() -> None:
    costs = Costs(row_cost=0.5)
    for _ in range(3):
        costs.note_single(2.0)
    beliefs = [costs.batch(3)]
    for _ in range(3):
        costs.note_batch(3, 8.0)
        beliefs.append(costs.batch(3))
    for _ in range(200):
        costs.note_single(2.0)

    assert beliefs == [2.0, 3.0, 3.0, 4.0]
    assert costs.batch(3) == 3.0
    assert costs.worst_batch(3) == 4.0
    assert costs.batch(5) == 4.0
    assert costs.worst_batch(5) > 5.0
