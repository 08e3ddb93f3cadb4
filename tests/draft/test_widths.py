"""How many rows are exact is found out by trial, and then relied on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fwlocal.draft import KnownWidths, Widths
from fwlocal.draft.widths import CPU_WIDTHS, ENOUGH_ROWS, SHORT

MOST = 16


def found_out(widths: Widths, n_cached: int, is_exact: Callable[[int], bool]) -> tuple[int, ...]:
    """Try the most of what may be tried, until nothing is left; what may be used then."""
    for _ in range(200):
        if not (to_try := widths.to_try(n_cached, MOST)):
            return widths.sure(n_cached, MOST)
        width = max(to_try)
        widths.note(n_cached, width, width, is_same=is_exact(width))
    raise AssertionError("it never ends")


def test_all_where_all_are_exact() -> None:
    assert found_out(Widths(lossless=True), 50, lambda n: True) == CPU_WIDTHS


def test_nothing_is_used_before_it_was_tried_often_enough() -> None:
    widths = Widths(lossless=True)

    for n_rows in range(4, ENOUGH_ROWS, 4):
        widths.note(50, 4, 4, is_same=True)
        assert widths.sure(50, MOST) == (), n_rows
    widths.note(50, 4, 4, is_same=True)

    assert widths.sure(50, MOST) == (4,)


@pytest.mark.parametrize("most", [2, 3, 4])
def test_as_many_as_are_exact(most: int) -> None:
    """Kernels change their way at four rows, or at eight."""
    widths = Widths(lossless=True)

    assert found_out(widths, 50, lambda n: n <= most) == tuple(n for n in CPU_WIDTHS if n <= most)


def test_where_two_rows_differ_all_do_and_that_is_told_once() -> None:
    told: list[str] = []
    widths = Widths(lossless=True, tell=told.append)
    n_trials = 0

    while to_try := widths.to_try(50, MOST):
        widths.note(50, max(to_try), 1, is_same=False)
        n_trials += 1
    widths.sure(50, MOST)

    assert n_trials == 2
    assert len(told) == 1
    assert "nothing is drafted" in told[0]


def test_long_contexts_are_tried_on_their_own() -> None:
    told: list[str] = []
    widths = Widths(lossless=True, tell=told.append)
    found_out(widths, 50, lambda n: True)

    assert widths.sure(SHORT, MOST) == ()
    assert found_out(widths, SHORT, lambda n: False) == ()
    assert widths.sure(50, MOST) == CPU_WIDTHS
    assert "256 tokens" in told[0]


def test_no_batch_reaches_from_a_short_context_into_a_long_one() -> None:
    widths = Widths(lossless=True)
    found_out(widths, 50, lambda n: True)
    found_out(widths, SHORT, lambda n: True)

    assert widths.sure(SHORT - 3, MOST) == (2, 3)
    assert Widths(lossless=True).to_try(SHORT - 3, MOST) == (2, 3)
    assert widths.sure(SHORT, MOST) == CPU_WIDTHS


def test_what_was_found_can_be_kept() -> None:
    first = Widths(lossless=True)
    found_out(first, 50, lambda n: n < 4)

    second = Widths(lossless=True, known=first.known)

    assert second.sure(50, MOST) == (2, 3)
    assert second.to_try(50, MOST) == ()
    assert second.to_try(SHORT, MOST) == CPU_WIDTHS
    assert second.known == first.known == KnownWidths((2, 3), (), (), CPU_WIDTHS)


def test_trials_that_do_not_suffice_are_kept_too() -> None:
    first = Widths(lossless=True)
    first.note(50, 4, ENOUGH_ROWS - 1, is_same=True)

    second = Widths(lossless=True, known=first.known)
    assert second.sure(50, MOST) == ()
    second.note(50, 4, 1, is_same=True)

    assert second.sure(50, MOST) == (4,)


def test_on_a_gpu_any_number_is_used_and_that_is_told_once() -> None:
    told: list[str] = []
    widths = Widths(lossless=False, tell=told.append)

    assert max(widths.sure(50, MOST)) == MOST
    assert max(widths.sure(50, 5)) == 5
    assert widths.to_try(50, MOST) == ()
    assert len(told) == 1


def test_what_is_known_never_to_be_exact_is_told_at_once() -> None:
    told: list[str] = []
    nothing = KnownWidths((), (), (), ())

    assert Widths(lossless=True, known=nothing, tell=told.append).never
    assert len(told) == 1
    assert "nothing is drafted" in told[0]
    assert not Widths(lossless=False, known=nothing, tell=told.append).never
    assert not Widths(lossless=True, tell=told.append).never
    assert len(told) == 1


def test_a_model_that_cannot_take_back_drafts_nothing_and_that_is_told_once() -> None:
    told: list[str] = []
    widths = Widths(lossless=False, can_truncate=False, tell=told.append)

    assert [widths.sure(n, MOST) for n in (50, 500)] == [(), ()]
    assert widths.to_try(50, MOST) == ()
    assert len(told) == 1
