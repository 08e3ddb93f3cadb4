"""Drafting pays where it can, and costs next to nothing where it cannot: by simulation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.draft import Controller, Kind
from fwlocal.draft.costs import Costs
from tests.draft.simulated import ANSWER, Simulated, by_chance

KIND = Kind("some", 0.7)


row_costs = st.floats(0.0, 1.2)
token_costs = st.sampled_from([0.0]) | st.floats(0.01, 3.0)


@settings(max_examples=50, deadline=None)
@given(row_costs, token_costs, st.floats(0, 1), st.integers(0, 99))
def test_it_never_costs_much_by_chance(
    row_cost: float, token_s: float, share: float, seed: int
) -> None:
    assert Simulated(row_cost, token_s).speed(by_chance(share, seed)) >= 0.97


@settings(max_examples=50, deadline=None)
@given(row_costs, token_costs, st.lists(st.booleans(), min_size=1, max_size=ANSWER))
def test_it_never_costs_much_on_text_that_changes(
    row_cost: float, token_s: float, fates: Sequence[bool]
) -> None:
    simulated = Simulated(row_cost, token_s)

    assert simulated.speed(lambda place: fates[place % len(fates)]) >= 0.97


@settings(max_examples=50, deadline=None)
@given(st.integers(1, ANSWER), row_costs, token_costs)
def test_it_never_costs_much_when_right_drafts_turn_wrong(
    turn: int, row_cost: float, token_s: float
) -> None:
    assert Simulated(row_cost, token_s).speed(lambda place: place < turn) >= 0.97


@settings(max_examples=20, deadline=None)
@given(row_costs, token_costs, st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_nor_in_any_answer_of_many(
    row_cost: float, token_s: float, shares: Sequence[float]
) -> None:
    simulated = Simulated(row_cost, token_s)

    for seed, share in enumerate(shares):
        assert simulated.speed(by_chance(share, seed)) >= 0.97


@settings(max_examples=20, deadline=None)
@given(row_costs, token_costs, st.floats(0.5, 1), st.sampled_from([1, 3, 8]))
def test_nor_while_it_finds_out_what_is_exact(
    row_cost: float, token_s: float, share: float, most: int
) -> None:
    simulated = Simulated(row_cost, token_s, is_exact=lambda rows: rows <= most)

    for seed in range(4):
        assert simulated.speed(by_chance(share, seed)) >= 0.97


@settings(max_examples=20, deadline=None)
@given(row_costs, token_costs, st.floats(0, 1))
def test_nor_where_readings_wobble(row_cost: float, token_s: float, share: float) -> None:
    simulated = Simulated(row_cost, token_s, noise=0.1)

    assert simulated.speed(by_chance(share)) >= 0.96  # the time itself wobbles by one in a hundred


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


def test_what_another_process_measured_is_believed_until_it_is_measured_here() -> None:
    costs = Costs(row_cost=0.5, known={2: 1.4, 4: 2.0})
    assert [costs.batch(n) for n in (2, 3, 4, 6)] == pytest.approx([1.4, 1.8, 2.0, 2.67], abs=0.01)
    assert (costs.worst_batch(4), costs.worst_batch(6)) == (2.0, 4.4)
    assert costs.measured == {}

    for _ in range(3):
        costs.note_single(1.0)
    for _ in range(3):
        costs.note_batch(4, 3.0)
    costs.note_batch(2, 1.2)
    assert costs.batch(4) == 3.0
    assert costs.batch(2) == pytest.approx(1.3)
    assert costs.measured == {4: 3.0}


def test_many_rows_are_risked_at_once_where_their_cost_is_known() -> None:
    """As in Q8_0, where two rows take twice as long as one, and eight not four times."""
    widths = {2: 2.1, 3: 2.5, 4: 2.6, 8: 3.6}
    found = []
    for known in (None, widths):
        controller = Controller(known=known)
        for _ in range(3):
            controller.decoded(1.0)
            controller.learned(KIND, 7, 7, 7)
        found.append(controller.n_rows(KIND, 7, [*widths]))

    assert found[0] < found[1] == 8


def test_a_token_alone_is_measured_again_where_batches_seem_cheap() -> None:
    """Others have left the machine meanwhile: by the old measure any draft would pay."""
    controller = Controller(0.4)
    for _ in range(3):
        controller.decoded(2.0)
        controller.learned(KIND, 1, 1, 1)
        controller.evaluated(KIND, 2, 2, 2.8)
    assert controller.n_rows(KIND, 1, (2,)) == 2

    controller.evaluated(KIND, 2, 2, 1.4)
    assert controller.n_rows(KIND, 1, (2,)) == 1
    for _ in range(3):
        controller.decoded(1.0)

    assert controller.costs.single_s == 1.0
    assert controller.n_rows(KIND, 1, (2,)) == 2


def test_an_early_loss_does_not_end_all_drafting() -> None:
    """Where drafts that were only watched would have paid, what was lost comes back."""
    controller = Controller()
    for _ in range(5):
        controller.decoded(1.0)
    controller.begin()
    for _ in range(2):
        controller.evaluated(KIND, 8, 1, 3.4)  # the first drafts were all wrong
        controller.learned(KIND, 7, 7, 0)
    assert controller.n_rows(KIND, 7, (2, 4, 8)) == 1

    for _ in range(12):
        controller.watched(KIND, 7, 7, 7)
        controller.decoded(1.0)

    assert controller.n_rows(KIND, 7, (2, 4, 8)) == 8


def test_what_takes_its_time_once_is_not_taken_for_a_drafts_cost() -> None:
    """As a library's first use does, in a process that has just begun."""
    controller = Controller()
    controller.prepared(KIND, 0.1)
    for _ in range(5):
        controller.decoded(1.0)

    controller.drafted(KIND, 1, 20.0)
    controller.begin()

    assert controller.costs.draft(KIND.name) == 0.1
    assert controller.n_to_draft(KIND, (2, 4)) > 0
