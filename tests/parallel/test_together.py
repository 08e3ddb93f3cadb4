"""How many are decoded together is found out by trial, and then relied on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fwlocal.parallel.together import ENOUGH_ROWS, SHORT, Together


def found_out(together: Together, n_tokens: int, n_ready: int, same: Callable[[int], bool]) -> int:
    """Try until nothing is left to be tried; how many go together then."""
    for _ in range(200):
        width, is_new = together.width(n_tokens, n_ready)
        if not is_new:
            return width
        together.note(n_tokens, width, is_same=same(width))
    raise AssertionError("it never ends")


def test_all_together_where_that_is_the_same() -> None:
    together = Together(8, on_cpu=True)

    assert found_out(together, 50, 8, lambda width: True) == 8
    assert together.is_exact
    assert together.width(50, 5) == (5, False)  # fewer need no trial of their own


def test_one_trial_is_not_enough() -> None:
    together = Together(8, on_cpu=True)

    n_trials = 0
    while together.width(50, 8)[1]:
        together.note(50, 8, is_same=True)
        n_trials += 1

    assert n_trials == ENOUGH_ROWS / 8


@pytest.mark.parametrize("most", [2, 3, 4, 7])
def test_as_many_as_are_the_same(most: int) -> None:
    """Kernels change their way at four rows, or at eight."""
    together = Together(16, on_cpu=True)

    assert found_out(together, 50, 16, lambda width: width <= most) == most


def test_a_late_difference_counts() -> None:
    together = Together(8, on_cpu=True)
    together.note(50, 8, is_same=True)
    together.note(50, 8, is_same=False)

    width, is_new = together.width(50, 8)

    assert width < 8
    assert is_new


def test_long_ones_are_tried_on_their_own() -> None:
    together = Together(8, on_cpu=True)
    found_out(together, SHORT, 8, lambda width: True)

    assert together.width(SHORT + 1, 8) == (8, True)
    assert found_out(together, SHORT + 1, 8, lambda width: False) == 1
    assert together.long_alone
    assert together.width(SHORT, 8) == (8, False)
    assert not together.same_kind(SHORT, SHORT + 1)


def test_on_a_cpu_what_differs_goes_one_at_a_time() -> None:
    together = Together(4, on_cpu=True)

    assert found_out(together, 50, 4, lambda width: False) == 1
    assert together.all_alone


def test_on_a_gpu_what_differs_goes_together_all_the_same() -> None:
    together = Together(4, on_cpu=False)

    assert found_out(together, SHORT + 1, 4, lambda width: False) == 4
    assert not together.is_exact
    assert together.same_kind(SHORT, SHORT + 1)


@pytest.mark.parametrize(("on_cpu", "width"), [(True, 1), (False, 4)])
def test_a_model_that_cannot_forget_is_not_tried(on_cpu: bool, width: int) -> None:
    together = Together(4, on_cpu=on_cpu, can_try=False)

    assert together.width(50, 4) == (width, False)


def test_one_lane_needs_no_trial() -> None:
    assert Together(1, on_cpu=True).width(50, 1) == (1, False)
