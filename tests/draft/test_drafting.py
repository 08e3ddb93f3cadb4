"""What an engine leaves to the next process: which numbers of rows are exact, and what they
cost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fwlocal.draft import Controller, Drafting, Kind, KnownWidths, Steering, Widths

KIND = Kind("any", 0.5)
Learned = list[tuple[KnownWidths, Mapping[int, float]]]


def learned(batch_s: float, costs: Mapping[int, float], n_batches: int = 3) -> Learned:
    """What is told at the end, after tokens of a second each and batches of four rows."""
    found: Learned = []
    controller, widths = Controller(known=costs), Widths(lossless=True)
    drafting = Drafting(
        Steering(controller, widths),
        lookup=True,
        costs=costs,
        learned=lambda known, costs: found.append((known, costs)),
    )
    for _ in range(3):
        controller.decoded(1.0)
    for _ in range(n_batches):
        controller.evaluated(KIND, 4, 2, batch_s)
    drafting.close()
    drafting.close()
    return found


def test_new_costs_are_told_once_beside_the_known_ones() -> None:
    assert learned(2.5, {8: 4.0}) == [(KnownWidths(), {4: 2.5, 8: 4.0})]


@pytest.mark.parametrize(("before", "is_told"), [(2.4, False), (3.0, False), (5.0, True)])
def test_costs_that_are_much_as_before_are_not(before: float, is_told: bool) -> None:
    assert bool(learned(2.5, {4: before})) is is_told


def test_a_single_batch_says_nothing() -> None:
    assert learned(2.5, {}, n_batches=1) == []


def test_without_batches_nothing_is_told() -> None:
    assert learned(2.5, {}, n_batches=0) == []
