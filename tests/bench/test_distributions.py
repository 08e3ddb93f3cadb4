"""What is kept of a distribution, and what of it is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.bench.distributions import TAIL, Distributions, compressed, joined

Floats = npt.NDArray[np.float32]


@st.composite
def logit_rows(draw: st.DrawFn) -> Floats:
    """A few rows of random logits, flat or peaked, over a small vocabulary."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 5)), draw(st.integers(2, 3000))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 4.0, 30.0, 300.0]))
    return (random.normal(0, scale, shape) + draw(st.floats(-50, 50))).astype(np.float32)


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))


def row_of(found: Distributions, row: int) -> tuple[npt.NDArray[Any], Floats]:
    kept = slice(found.starts[row], found.starts[row + 1])
    return found.ids[kept], found.logits[kept]


@given(logit_rows(), st.sampled_from([TAIL, 0.1, 0.0]))
def test_all_but_the_tail_is_kept_as_it_is(logits: Floats, tail: float) -> None:
    found = compressed(logits, tail)
    exact = log_softmax(logits)
    for row, one in enumerate(logits):
        ids, kept = row_of(found, row)
        assert (np.diff(ids.astype(int)) > 0).all()
        np.testing.assert_array_equal(kept, one[ids])
        np.testing.assert_allclose(kept - found.log_sum[row], exact[row][ids], atol=1e-5)
        left = np.delete(np.arange(len(one)), ids)
        share = np.exp(exact[row][left]).sum()
        assert share <= tail + 1e-6
        assert not len(left) or one[left].max() <= kept.min()
        assert np.exp(found.log_tail[row] - found.log_sum[row]) == pytest.approx(share, rel=1e-4)
        assert found.top[row] == one.argmax()


def test_few_tokens_are_kept_beyond_those_needed() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (8, 50_000)).astype(np.float32)
    found = compressed(logits)
    shares = np.sort(np.exp(log_softmax(logits)), axis=1)[:, ::-1]
    needed = (shares.cumsum(axis=1) < 1 - TAIL).sum(axis=1) + 1
    assert (np.diff(found.starts) <= 1.05 * needed).all()
    assert found.ids.dtype == np.uint16
    assert found.n_bytes < 7 * len(found.ids)


def test_a_token_that_has_it_all_is_kept_alone() -> None:
    logits = np.full((1, 100), -200, np.float32)
    logits[0, 42] = 10
    found = compressed(logits)
    assert found.ids.tolist() == [42]
    # Less than float32 can count, and still a number.
    assert found.log_tail[0] == pytest.approx(-200 + np.log(99))


@given(logit_rows(), logit_rows())
def test_rows_are_joined_and_taken_apart_again(first: Floats, second: Floats) -> None:
    n_vocab = min(first.shape[1], second.shape[1])
    parts = [compressed(first[:, :n_vocab]), compressed(second[:, :n_vocab])]
    whole = joined(parts)
    assert len(whole) == len(first) + len(second)
    again = [whole.rows(0, len(first)), whole.rows(len(first), len(whole))]
    for part, one in zip(parts, again, strict=True):
        assert part.n_vocab == one.n_vocab
        for name in ("ids", "logits", "starts", "log_sum", "log_tail", "top", "is_nan"):
            np.testing.assert_array_equal(getattr(part, name), getattr(one, name))


def test_places_are_where_the_kept_logits_are() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (5, 300)).astype(np.float32)
    found = compressed(logits)
    np.testing.assert_array_equal(logits.reshape(-1)[found.places()], found.logits)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_without_numbers_is_marked_and_spoils_no_other(bad: float) -> None:
    logits = np.random.default_rng(3).normal(0, 3, (3, 300)).astype(np.float32)
    expected = compressed(logits)
    logits[1, 17] = bad
    found = compressed(logits)
    assert found.is_nan.tolist() == [False, True, False]
    for row in (0, 2):
        np.testing.assert_array_equal(row_of(found, row)[0], row_of(expected, row)[0])
        assert found.log_sum[row] == expected.log_sum[row]
    assert len(row_of(found, 1)[0]) == 1
