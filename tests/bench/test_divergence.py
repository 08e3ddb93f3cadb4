"""Divergences against brute force, within the bound that the compressed form states."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.bench.distributions import TAIL, compressed
from fwlocal.bench.divergence import joined_scores, own_scores, scores
from fwlocal.bench.measured import ChunkScores
from tests.bench.test_distributions import log_softmax

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Case = tuple[Floats, Floats, Ints]


@st.composite
def two_models(draw: st.DrawFn) -> Case:
    """The logits of a reference and of a level somewhat off it, and the right tokens."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 5)), draw(st.integers(2, 2000))
    reference = random.normal(0, draw(st.sampled_from([0.1, 2.0, 5.0, 30.0])), shape)
    off = random.normal(0, draw(st.sampled_from([0.0, 0.01, 0.3, 3.0])), shape)
    shift = draw(st.floats(-20, 20))
    targets = random.integers(0, shape[1], shape[0])
    return reference.astype(np.float32), (reference + off + shift).astype(np.float32), targets


def measured(case: Case, tail: float = TAIL) -> ChunkScores:
    reference, level, targets = case
    kept = compressed(reference, tail)
    own = own_scores(kept, reference, targets)
    return scores(kept, own.nll, level, targets)


def divergences(reference: Floats, level: Floats) -> npt.NDArray[np.float64]:
    log_p, log_q = log_softmax(reference), log_softmax(level)
    return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=1))


@given(two_models())
def test_a_divergence_misses_that_inside_the_tail_and_nothing_else(case: Case) -> None:
    reference, level, _ = case
    kept = compressed(reference)
    missed = np.zeros(len(reference))
    for row in range(len(reference)):
        ids = kept.ids[kept.starts[row] : kept.starts[row + 1]]
        inside = [np.delete(logits[row], ids)[None] for logits in (reference, level)]
        if inside[0].size:
            share = (
                np.exp(log_softmax(reference)[row]).sum()
                - np.exp(log_softmax(reference)[row][ids]).sum()
            )
            assert share <= TAIL + 1e-9
            missed[row] = share * divergences(inside[0], inside[1])[0]
    exact = divergences(reference, level)
    np.testing.assert_allclose(measured(case).kld, exact - missed, rtol=1e-4, atol=2e-6)


@given(two_models())
def test_with_no_tail_it_is_the_divergence_itself(case: Case) -> None:
    exact = divergences(case[0], case[1])
    np.testing.assert_allclose(measured(case, tail=0).kld, exact, rtol=1e-4, atol=2e-6)


@given(two_models())
def test_the_right_token_and_the_likeliest_are_exact(case: Case) -> None:
    reference, level, targets = case
    rows = np.arange(len(targets))
    found = measured(case)
    nll, own = -log_softmax(level)[rows, targets], -log_softmax(reference)[rows, targets]
    np.testing.assert_allclose(found.nll, nll, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.reference_nll, own, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.dp, np.exp(-nll) - np.exp(-own), atol=1e-5)
    np.testing.assert_array_equal(found.same_top, level.argmax(axis=1) == reference.argmax(axis=1))
    assert found.kld.dtype == found.nll.dtype == found.dp.dtype == np.float32


@given(two_models())
def test_the_same_logits_are_exactly_nothing_apart(case: Case) -> None:
    reference, _, targets = case
    found = measured((reference, reference.copy(), targets))
    assert not found.kld.any()
    assert not found.dp.any()
    assert found.same_top.all()
    np.testing.assert_array_equal(found.nll, found.reference_nll)


@given(two_models(), st.integers(0, 2**32))
def test_the_order_of_the_vocabulary_does_not_matter(case: Case, seed: int) -> None:
    reference, level, targets = case
    order = np.random.default_rng(seed).permutation(reference.shape[1])
    place = np.argsort(order)
    found = measured((reference[:, order], level[:, order], place[targets]))
    expected = measured(case)
    np.testing.assert_allclose(found.kld, expected.kld, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-5, atol=1e-5)


def test_a_level_that_finds_the_tail_impossible_is_far_off_and_finite() -> None:
    reference = np.array([[0, 0, -8, -8]], np.float32)  # the tail: twice 1/6000
    level = np.array([[0, 0, -500, -500]], np.float32)
    found = measured((reference, level, np.array([0])))
    assert found.kld[0] == pytest.approx(divergences(reference, level)[0], rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_rows_without_numbers_are_marked_and_the_rest_counts(bad: float, side: int) -> None:
    random = np.random.default_rng(4)
    case = tuple(random.normal(0, 3, (4, 500)).astype(np.float32) for _ in "12")
    targets = np.array([1, 2, 3, 4])
    expected = measured((case[0], case[1], targets))
    case[side][2, 7] = bad
    case[side][3] = bad
    found = measured((case[0], case[1], targets))
    assert found.is_nan.tolist() == [False, False, True, True]
    for name in ("nll", "reference_nll", "kld", "dp", "same_top"):
        values = getattr(found, name)
        assert not values[2:].any(), name
        np.testing.assert_array_equal(values[:2], getattr(expected, name)[:2])


def test_chunks_are_put_together_in_order() -> None:
    random = np.random.default_rng(5)
    reference, level = (random.normal(0, 3, (6, 50)).astype(np.float32) for _ in "12")
    targets = random.integers(0, 50, 6)
    whole = measured((reference, level, targets))
    parts = [measured((reference[s], level[s], targets[s])) for s in (slice(2), slice(2, 6))]
    for name, values in vars(joined_scores(parts)).items():
        np.testing.assert_array_equal(values, getattr(whole, name))
