"""How far a level's logits are from the reference's, position by position. Pure.

The definitions are llama-perplexity's: the right token's negative log-likelihood, the
Kullback-Leibler divergence of the level from the reference, the change of the right token's
probability (Δp), and whether both find the same token likeliest. Each is of a softmax over the
whole vocabulary; what is summed up is summed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fwlocal.bench.distributions import (
    Distributions,
    Doubles,
    Ints,
    cleaned,
    exponentials,
    log_sums,
)
from fwlocal.bench.measured import ChunkScores

if TYPE_CHECKING:
    from fwlocal.bench.measured import Bools, Floats


def own_scores(reference: Distributions, logits: Floats, targets: Ints) -> ChunkScores:
    """The reference beside itself: ``logits`` are those that ``reference`` was made of, row by row,
    and ``targets`` the right tokens."""
    nll = reference.log_sum - logits[np.arange(len(targets)), targets]
    nothing = np.zeros(len(targets))
    return _scores(reference.is_nan, nll, nll, nothing, ~reference.is_nan)


def scores(
    reference: Distributions, reference_nll: Floats, logits: Floats, targets: Ints
) -> ChunkScores:
    """A level beside the reference: ``logits`` (rows, n_vocab) are the level's at the positions
    that ``reference`` is of, ``targets`` the right tokens there, and ``reference_nll`` is that of
    its own scores."""
    logits, is_nan = cleaned(logits)
    peaks, exps = exponentials(logits)
    places = reference.places()
    kept = logits.reshape(-1)[places]
    log_sum, log_tail = log_sums(logits, peaks, exps, places, reference.starts)
    return _scores(
        is_nan | reference.is_nan,
        log_sum - logits[np.arange(len(targets)), targets],
        reference_nll,
        _divergences(reference, kept, log_sum, log_tail),
        logits.argmax(axis=1) == reference.top,
    )


def joined_scores(parts: Sequence[ChunkScores]) -> ChunkScores:
    """The positions of all ``parts``, at least one, in their order."""
    names = [field.name for field in fields(ChunkScores)]
    return ChunkScores(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def _divergences(
    reference: Distributions, kept: Floats, log_sum: Doubles, log_tail: Doubles
) -> Doubles:
    """In nats, by the formula in ``fwlocal.bench.distributions``; ``kept`` are the level's logits
    of the kept tokens. Differences of logits are summed, and not of their logarithms of
    probabilities: so the same logits are exactly 0 apart."""
    starts = reference.starts[:-1]
    log_sums_of_all = np.repeat(reference.log_sum, np.diff(reference.starts))
    shares = np.exp((reference.logits - log_sums_of_all).astype(np.float32))
    ahead = np.subtract(reference.logits, kept, dtype=np.float64)
    found: Doubles = np.add.reduceat(ahead * shares, starts)
    found -= (reference.log_sum - log_sum) * np.add.reduceat(shares, starts, dtype=np.float64)
    has_tail = np.isfinite(reference.log_tail)
    log_share = (reference.log_tail - reference.log_sum)[has_tail]
    found[has_tail] += np.exp(log_share) * (log_share - (log_tail - log_sum)[has_tail])
    return np.maximum(found, 0)  # rounding alone makes it less


def _scores(
    is_nan: Bools,
    nll: npt.NDArray[np.floating],
    reference_nll: npt.NDArray[np.floating],
    kld: Doubles,
    same_top: Bools,
) -> ChunkScores:
    """As float32, 0 where ``is_nan``."""

    def narrow(values: npt.NDArray[np.floating]) -> Floats:
        with np.errstate(over="ignore"):
            return np.where(is_nan, 0, values).astype(np.float32)

    nll, reference_nll = narrow(nll), narrow(reference_nll)
    dp = np.exp(-nll.astype(np.float64)) - np.exp(-reference_nll.astype(np.float64))
    return ChunkScores(
        nll, reference_nll, narrow(kld), dp.astype(np.float32), same_top & ~is_nan, is_nan
    )
