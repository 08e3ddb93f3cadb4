"""What is taken: more than noise, by enough to matter; what is noise never is."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.tune.decision import Pair, median_ratio, ratio_of, slower_test

seconds = st.floats(0.01, 100)
a_pair = st.builds(lambda one, other: Pair((one,), (other,)), seconds, seconds)
some_pairs = st.lists(a_pair, min_size=2, max_size=12)


def pairs(*ratios: float) -> list[Pair]:
    """Of candidates that are so many times as fast."""
    return [Pair((ratio,), (1.0,)) for ratio in ratios]


def test_a_clear_gain_is_taken() -> None:
    found = ratio_of(pairs(1.10, 1.11, 1.12, 1.10, 1.13, 1.11))

    assert found.is_better
    assert found.ratio == pytest.approx(1.11)
    assert 1.05 < found.low < found.ratio < found.high < 1.17


def test_a_gain_that_is_too_small_to_matter_is_none() -> None:
    assert not ratio_of(pairs(*[1.015] * 6)).is_better


def test_a_large_gain_that_comes_and_goes_is_noise() -> None:
    assert not ratio_of(pairs(1.5, 0.8, 1.6, 0.7, 1.4, 1.3)).is_better


def test_too_wide_an_interval_tells_nothing() -> None:
    assert ratio_of(pairs(6.0, 0.8, 40.0, 6.1, 1.0, 7.0)).is_noisy
    assert not ratio_of(pairs(6.0, 6.5, 5.8, 6.1, 6.3, 5.9)).is_noisy, "large and sure"
    assert not ratio_of(pairs(1.0, 0.9, 1.1, 1.05, 0.95, 1.0)).is_noisy, "noise as of any machine"


def test_two_pairs_must_agree_well() -> None:
    assert not ratio_of(pairs(1.05, 1.15)).is_better
    assert ratio_of(pairs(1.30, 1.31)).is_better


@given(st.lists(st.floats(0.981, 1.019), min_size=2, max_size=12))
def test_noise_of_two_per_cent_is_never_taken(ratios: list[float]) -> None:
    assert not ratio_of(pairs(*ratios)).is_better


@given(some_pairs)
def test_whatever_was_timed_not_both_are_better(timed: list[Pair]) -> None:
    turned = [Pair(pair.candidate, pair.best) for pair in timed]

    assert not (ratio_of(timed).is_better and ratio_of(turned).is_better)


@given(some_pairs)
def test_what_is_taken_was_faster_in_most_pairs(timed: list[Pair]) -> None:
    if ratio_of(timed).is_better:
        assert sum(pair.ratio > 1 for pair in timed) * 2 >= len(timed)


@pytest.mark.parametrize("spread", [0.01, 0.05, 0.3])
def test_equals_are_hardly_ever_taken(spread: float) -> None:
    """A 95 % interval lies above 1 for at most 2.5 % of equals."""
    random = Random(7)
    n_taken = sum(
        ratio_of(pairs(*(random.lognormvariate(0, spread) for _ in range(6)))).is_better
        for _ in range(200)
    )
    assert n_taken <= 10


def test_pairs_that_differ_wildly_have_an_interval_too() -> None:
    found = ratio_of(pairs(1e-4, 1e4))

    assert 0 < found.low < 1 < found.high
    assert not found.is_better


def test_the_same_pairs_give_the_same_interval() -> None:
    timed = pairs(1.1, 0.9, 1.3, 1.2)
    assert ratio_of(timed) == ratio_of(timed)


def test_the_median_is_of_all_tests_together() -> None:
    assert median_ratio([Pair((3.0, 1.0), (1.0, 1.0))]) == pytest.approx(2.0)
    assert median_ratio(pairs(1.0, 4.0)) == pytest.approx(2.0), "geometric"


def test_a_test_that_loses_is_named() -> None:
    timed = [Pair((4.0, 1.0), (2.0, 1.1))] * 3

    assert slower_test(timed) == 1
    assert slower_test([Pair((4.0, 1.0), (2.0, 1.01))] * 3) is None
