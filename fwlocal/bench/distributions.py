"""What the reference expects at every position, compressed, and how far off that can be.

Of each position (row) these are kept: the likeliest tokens, which together hold all but at most
``TAIL`` of the probability, each with its logit as it is (float32) and its id; the logarithm of
the sum of the exponentials of all logits, so that ``exp(logit - log_sum)`` is a kept token's
probability; and the same sum over all that is not kept, the tail, which counts as one outcome:
``exp(log_tail - log_sum)`` is its probability.

The error. With p the reference's probabilities and q a level's, and capitals for the sums over the
tail, the divergence splits exactly (the chain rule) into

    KLD(p, q)  =  sum over kept of p·log(p/q)  +  P·log(P/Q)  +  P · KLD(p/P, q/Q inside the tail)

of which the first two terms are reckoned and the last is not. It is never negative (the log-sum
inequality), so what is reckoned is a lower bound, and it misses exactly P times the divergence of
the two inside the tail, with P <= TAIL = 1/1000. Inside a tail levels differ about as much as
elsewhere, or up to twice that: measured on SmolLM2-135M, F16 against Q8_0, Q4_0 and Q2_K, mean,
median, 95, 99, 99.9 % and maximum were 0.05 to 0.2 % too small. TAIL 1/100 misses 0.4 to 1.5 %;
1/10,000 misses a tenth, for twice the size. Perplexity, the probability of the right token and the
likeliest token are not compressed, and are exact.

The size: 6 bytes for each kept token, 8 of more than 65,536. That model, whose expectations are
flat, has 10,000 of its 49,152 kept, 60 kB a position; llama-perplexity's file takes 98.

A row with a logit that is no finite number is marked, and what it holds means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fwlocal.bench.measured import Bools, Floats

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TAIL = 1e-3
# float32 by their upper bits: sign, exponent and 4 bits, so 16 bins for each power of two.
_BIN_SHIFT = 19
_N_BINS = (int(np.float32(1.0).view(np.int32)) >> _BIN_SHIFT) + 1
_IMPOSSIBLE = -1000.0  # a logit, beside one of 0
_VANISHING = 1e-30  # a sum of float32 exponentials this small has lost bits


@dataclass(frozen=True)
class Distributions:
    """Compressed distributions over ``n_vocab`` tokens, as the module describes them. ``ids`` and
    ``logits`` are those of row 0, then of row 1, ..., in ascending ids; row N has those from
    ``starts[N]`` to ``starts[N + 1]``, one at least. All else has an entry for each row; ``top`` is
    the likeliest token."""

    n_vocab: int
    ids: npt.NDArray[np.unsignedinteger[Any]]
    logits: Floats
    starts: Ints
    log_sum: Doubles
    log_tail: Doubles
    top: Ints
    is_nan: Bools

    @property
    def n_bytes(self) -> int:
        """What they take in memory."""
        arrays = self.ids, self.logits, self.starts, self.log_sum, self.log_tail, self.top
        return sum(array.nbytes for array in arrays) + self.is_nan.nbytes

    def __len__(self) -> int:
        return len(self.log_sum)

    def rows(self, start: int, end: int) -> Distributions:
        """Some of the rows; no copy but of ``starts``."""
        starts = self.starts[start : end + 1]
        kept = slice(int(starts[0]), int(starts[-1]))
        return Distributions(
            self.n_vocab,
            self.ids[kept],
            self.logits[kept],
            starts - starts[0],
            self.log_sum[start:end],
            self.log_tail[start:end],
            self.top[start:end],
            self.is_nan[start:end],
        )

    def places(self) -> Ints:
        """Where the kept tokens are in a matrix (rows, n_vocab), laid out flat."""
        rows = np.repeat(np.arange(len(self)) * self.n_vocab, np.diff(self.starts))
        return rows + self.ids


def compressed(logits: Floats, tail: float = TAIL) -> Distributions:
    """The distributions of ``logits``, (rows, n_vocab). Takes three times their memory meanwhile;
    callers bring few rows at a time."""
    n_rows, n_vocab = logits.shape
    logits, is_nan = cleaned(logits)
    peaks, exps = exponentials(logits)
    cuts = np.array([_cut(row, tail) for row in exps], np.float32)
    places = np.flatnonzero(exps >= cuts[:, None])
    starts = np.searchsorted(places, np.arange(n_rows + 1) * n_vocab)
    log_sum, log_tail = log_sums(logits, peaks, exps, places, starts)
    return Distributions(
        n_vocab,
        (places % n_vocab).astype(np.min_scalar_type(n_vocab - 1)),
        logits.ravel()[places],
        starts,
        log_sum,
        log_tail,
        logits.argmax(axis=1),
        is_nan,
    )


def joined(parts: Sequence[Distributions]) -> Distributions:
    """The rows of all ``parts``, at least one, in their order."""
    offsets = np.cumsum([0, *(len(part.ids) for part in parts)])
    starts = [part.starts[:-1] + offset for part, offset in zip(parts, offsets, strict=False)]
    return Distributions(
        parts[0].n_vocab,
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.logits for part in parts]),
        np.concatenate([*starts, offsets[-1:]]),
        np.concatenate([part.log_sum for part in parts]),
        np.concatenate([part.log_tail for part in parts]),
        np.concatenate([part.top for part in parts]),
        np.concatenate([part.is_nan for part in parts]),
    )


def cleaned(logits: Floats) -> tuple[Floats, Bools]:
    """The same logits, and which rows have one that is infinite or no number; such rows are others
    then, that nothing stumbles over, in a copy."""
    is_nan: Bools = np.logical_not(np.isfinite(logits).all(axis=1))
    if is_nan.any():
        logits = logits.copy()
        logits[is_nan] = _IMPOSSIBLE
        logits[is_nan, 0] = 0
    return logits, is_nan


def exponentials(logits: Floats) -> tuple[Floats, Floats]:
    """Each row's highest logit, and ``exp(logit - highest)`` of all, in new memory."""
    peaks = logits.max(axis=1)
    with np.errstate(over="ignore"):  # logits further apart than float32 counts
        shares = np.subtract(logits, peaks[:, None], order="C")
    return peaks, np.exp(shares, out=shares)


def log_sums(
    logits: Floats, peaks: Floats, exps: Floats, places: Ints, starts: Ints
) -> tuple[Doubles, Doubles]:
    """The logarithms of the sums of ``exp(logit)`` over all tokens, and over those that are not at
    ``places``, -inf for none. Each row has a place at least; ``exps`` is used up.

    Both sums are of what is in them alone: a difference of the two would lose the tail's digits.
    """
    flat = exps.reshape(-1)
    kept = np.add.reduceat(flat[places], starts[:-1], dtype=np.float64)
    flat[places] = 0
    rest = exps.sum(axis=1, dtype=np.float64)
    wide = peaks.astype(np.float64)
    with np.errstate(divide="ignore"):
        log_tail = np.log(rest) + wide
    for row in np.flatnonzero(rest < _VANISHING):
        log_tail[row] = _log_sum_of_rest(logits[row], places[starts[row] : starts[row + 1]])
    return np.log(kept + rest) + wide, log_tail


def _log_sum_of_rest(logits: Floats, places: Ints) -> float:
    rest = np.delete(logits, places % len(logits)).astype(np.float64)
    if not len(rest):
        return -np.inf
    peak = rest.max()
    return float(peak + np.log(np.exp(rest - peak).sum()))


def _cut(exps: Floats, tail: float) -> np.float32:
    """The least exponential that is kept, so that those below hold at most ``tail`` of the sum.

    Found by summing bins, much faster than by sorting; a bin is kept or left as a whole.
    """
    bins = exps.view(np.int32) >> _BIN_SHIFT
    sums = np.bincount(bins, weights=exps, minlength=_N_BINS).cumsum()
    first_kept = int(np.searchsorted(sums, tail * sums[-1], side="right"))
    return np.int32(first_kept << _BIN_SHIFT).view(np.float32)
