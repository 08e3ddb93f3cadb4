"""From the scores of chunks and the rounds of speed to figures with their uncertainty. Pure.

Two kinds of uncertainty, on purpose. A level's own standard errors are by llama-perplexity's
formulas (``kl_divergence()`` in tools/perplexity/perplexity.cpp), which take positions for
independent, so that the figures compare with what is published; only percentiles, for which it
gives none, are bootstrapped over chunks. Whether two levels differ, and whether ``--until`` is
reached, is decided over chunks, whose positions hang together.

Beside the reference nothing is left to chance: its divergence is 0 and its agreement whole by
definition, so that what is farther off than arithmetic explains is no tie, be it over one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fwlocal.bench import bootstrap
from fwlocal.bench.bootstrap import Doubles
from fwlocal.bench.measured import ChunkScores
from fwlocal.bench.result import Difference, Quality, Speed, SpeedTest, Value

LEAST_POSITIONS = 11  # llama-perplexity gives no uncertainty below that
LEAST_CHUNKS = 4  # for a standard error over chunks, and to tell two levels apart
LEAST_ROUNDS = 2  # to tell two speeds apart
N_RESAMPLES = 1000  # a standard error to 2 %; a tenth of a second for 50,000 positions
# What arithmetic in float32 leaves between two runs of one file: no data could tell more.
ALLOWANCE = {"kld_mean": 1e-6, "ppl": 1e-6, "top1": 0.0}
SPEED_ALLOWANCE = 0.01  # of the speed: what the order in a round and the place in memory do
UNKNOWN_SPREAD = 0.2  # of what was measured once: its noise is not known, this much is taken for it

_QUANTILES = (0.5, 0.95, 0.99, 0.999)
_MOST_LOG = 700.0  # the exponential of more is no float64


@dataclass(frozen=True)
class _Positions:
    """All positions with numbers, of all chunks, and which chunk each is of: numbered from 0 among
    those that have any."""

    nll: Doubles
    reference_nll: Doubles
    kld: Doubles
    dp: Doubles
    same_top: Doubles
    chunk_of: npt.NDArray[np.intp]


def usable(scores: ChunkScores) -> npt.NDArray[np.bool_]:
    """The positions that count: not marked as NaN, and finite in every figure. An infinite one, as
    where a level gives the right token no probability at all, is no more to be averaged."""
    ok = ~scores.is_nan
    for figures in (scores.nll, scores.reference_nll, scores.kld, scores.dp):
        ok = ok & np.isfinite(figures)
    return ok


def quality_of(
    scores: Sequence[ChunkScores], seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Quality:
    """The figures of a level from its chunks.

    Standard errors are None below 11 positions, those of percentiles also for a single chunk, and
    that of the maximum always. Without a position that has numbers every figure is NaN and every
    error None; a chunk without one has NaN among the means by chunk, which stay in their places.
    """
    kept = [usable(chunk) for chunk in scores]
    of = _gathered(scores, kept)
    n_tokens = len(of.kld)
    ppl, ratio = _mean(of.nll), _mean(of.nll - of.reference_nll)
    square = _mean(of.dp**2)
    rms = math.sqrt(square.value)
    rms_se = None if square.se is None else 0.5 * square.se / rms if rms else 0.0
    median, p95, p99, p99_9 = _percentiles(of, n_resamples, seed)
    return Quality(
        n_chunks=len(scores),
        n_tokens=n_tokens,
        n_nan=sum(len(ok) for ok in kept) - n_tokens,
        ppl=_exp(ppl),
        ppl_ratio=_exp(ratio),
        kld_mean=_mean(of.kld),
        kld_median=median,
        kld_95=p95,
        kld_99=p99,
        kld_99_9=p99_9,
        kld_max=Value(float(of.kld.max()) if n_tokens else math.nan),
        top1=_mean(of.same_top),
        dp_mean=_mean(of.dp),
        dp_rms=Value(rms, rms_se),
        nll_by_chunk=tuple(_means(scores, kept, "nll")),
        kld_by_chunk=tuple(_means(scores, kept, "kld")),
    )


def _gathered(scores: Sequence[ChunkScores], kept: Sequence[npt.NDArray[np.bool_]]) -> _Positions:
    counts = [n for n in (int(ok.sum()) for ok in kept) if n]

    def joined(name: str) -> Doubles:
        parts = [getattr(chunk, name)[ok] for chunk, ok in zip(scores, kept, strict=True)]
        return np.concatenate([np.zeros(0), *parts])

    return _Positions(
        joined("nll"),
        joined("reference_nll"),
        joined("kld"),
        joined("dp"),
        joined("same_top"),
        np.repeat(np.arange(len(counts)), counts),
    )


def _means(
    scores: Sequence[ChunkScores], kept: Sequence[npt.NDArray[np.bool_]], name: str
) -> Iterator[float]:
    for chunk, ok in zip(scores, kept, strict=True):
        yield float(getattr(chunk, name)[ok].mean(dtype=np.float64)) if ok.any() else math.nan


def _mean(values: Doubles) -> Value:
    """llama-perplexity's mean_and_uncertainty: of n values the standard deviation (of n) over
    sqrt(n - 1). The same for a share of ones, where it is sqrt(p (1 - p) / (n - 1)), and for a
    difference of two columns, where it has their covariance in it."""
    n = len(values)
    if not n:
        return Value(math.nan)
    se = float(values.std()) / math.sqrt(n - 1) if n >= LEAST_POSITIONS else None
    return Value(float(values.mean()), se)


def _exp(log: Value) -> Value:
    """The exponential, its error by the delta method."""
    value = math.exp(min(log.value, _MOST_LOG)) if math.isfinite(log.value) else math.nan
    return Value(value, None if log.se is None else value * log.se)


def _percentiles(of: _Positions, n_resamples: int, seed: int) -> list[Value]:
    n = len(of.kld)
    if not n:
        return [Value(math.nan)] * len(_QUANTILES)
    values = [float(value) for value in np.quantile(of.kld, _QUANTILES)]
    if n < LEAST_POSITIONS or of.chunk_of[-1] == 0 or n_resamples < 2:
        return [Value(value) for value in values]
    errors = bootstrap.quantile_errors(of.kld, of.chunk_of, _QUANTILES, n_resamples, [seed])
    return [Value(value, error) for value, error in zip(values, errors, strict=True)]


def kld_error(scores: Sequence[ChunkScores]) -> float | None:
    """The standard error of the mean KLD over chunks (from the chunks' means); None below 4 chunks
    with numbers in them."""
    return error_of_means(_kld_means(scores))


def error_of_means(means: Sequence[float]) -> float | None:
    """The standard error over chunks of what these are the chunks' means of, NaN left aside; None
    below 4."""
    known = [mean for mean in means if not math.isnan(mean)]
    if len(known) < LEAST_CHUNKS:
        return None
    return float(np.std(known, ddof=1)) / math.sqrt(len(known))


def se_reached(scores: Sequence[ChunkScores], until: float) -> bool:
    """Whether ``--until`` lets this level stop: ``kld_error`` is at most ``until``. A level of 4
    chunks or more without any numbers has nothing to wait for."""
    return is_reached(_kld_means(scores), until)


def is_reached(kld_by_chunk: Sequence[float], until: float) -> bool:
    """``se_reached`` of a level whose chunks have these means of the KLD."""
    error = error_of_means(kld_by_chunk)
    if error is None:
        return len(kld_by_chunk) >= LEAST_CHUNKS and all(map(math.isnan, kld_by_chunk))
    return error <= until


def _kld_means(scores: Sequence[ChunkScores]) -> list[float]:
    return list(_means(scores, [usable(chunk) for chunk in scores], "kld"))


def differences(
    labels: Sequence[str],
    scores: Mapping[str, Sequence[ChunkScores]],
    speeds: Mapping[str, tuple[Speed, ...]],
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> tuple[Difference, ...]:
    """How each level differs from the next of ``labels`` that has the measure too.

    "kld_mean" in nats, "ppl" as the logarithm of the ratio, "top1" as a share: over the positions
    that both read, by resampling the chunks that both have, 4 at least, the same for both; "ppl" of
    levels that read the same chunks only. Each speed test by its name, as a share of ``a``'s speed:
    the median of the rounds' ratios, 2 at least, for round i of both ran side by side. The
    intervals hold ``ALLOWANCE`` on either side.

    Where one of the two is at no distance from the reference, as that itself is, "kld_mean" and
    "top1" are told of fewer chunks too, and tie only where ``ALLOWANCE`` explains the divergence.
    """
    read = [label for label in labels if scores.get(label)]
    found: list[Difference] = []
    for place, (a, b) in enumerate(pairwise(read)):
        found += _in_quality(a, b, scores[a], scores[b], (seed, place), n_resamples)
    tests = dict.fromkeys(s.test for label in labels for s in speeds.get(label, ()))
    for test in tests:
        rounds = {label: _rounds(speeds.get(label, ()), test) for label in labels}
        for a, b in pairwise([label for label in labels if rounds[label]]):
            if min(len(rounds[a]), len(rounds[b])) >= LEAST_ROUNDS:
                found.append(_in_speed(a, b, test, rounds[a], rounds[b], seed, n_resamples))
    return tuple(found)


def _in_quality(
    a: str,
    b: str,
    of_a: Sequence[ChunkScores],
    of_b: Sequence[ChunkScores],
    seed: tuple[int, int],
    n_resamples: int,
) -> Iterator[Difference]:
    sums, counts = _paired(of_a, of_b)
    n = len(counts)
    is_beside_reference = _has_no_distance(of_a) or _has_no_distance(of_b)
    if not n or (n < LEAST_CHUNKS and not is_beside_reference):
        return
    values = (sums.sum(axis=0) / counts.sum()).tolist()
    is_apart = is_beside_reference and abs(values[0]) > ALLOWANCE["kld_mean"]
    intervals = [(value, value) for value in values]
    if n >= LEAST_CHUNKS:
        replicates = bootstrap.ratios(sums, counts, n_resamples, seed).T
        intervals = [bootstrap.interval(*one, n) for one in zip(values, replicates, strict=True)]
    for (measure, allowance), value, (low, high) in zip(
        ALLOWANCE.items(), values, intervals, strict=True
    ):
        if measure == "ppl" and (n < LEAST_CHUNKS or len(of_a) != len(of_b)):
            continue
        low, high = low - allowance, high + allowance
        if is_apart and measure != "ppl":
            least = allowance or 1 / float(counts.sum())  # a position
            low, high = bootstrap.without_zero(value, low, high, least)
        yield Difference(a, b, measure, value, low, high)


def _has_no_distance(scores: Sequence[ChunkScores]) -> bool:
    """As of the reference, and of a copy of it."""
    return not any(chunk.kld[usable(chunk)].any() for chunk in scores)


def _paired(of_a: Sequence[ChunkScores], of_b: Sequence[ChunkScores]) -> tuple[Doubles, Doubles]:
    """For each chunk that both have, from the first on, the sums of ``b`` less ``a`` in KLD, nll
    and agreement over the positions where both have numbers, and how many these are."""
    sums, counts = [], []
    for a, b in zip(of_a, of_b, strict=False):
        if len(a.kld) != len(b.kld):
            break
        ok = usable(a) & usable(b)
        if ok.any():
            counts.append(float(ok.sum()))
            sums.append([_excess(getattr(a, n)[ok], getattr(b, n)[ok]) for n in _PAIRED])
    return np.array(sums).reshape(-1, len(_PAIRED)), np.array(counts)


_PAIRED = ("kld", "nll", "same_top")  # in the order of ALLOWANCE


def _excess(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    return float((b.astype(np.float64) - a.astype(np.float64)).sum())


def _rounds(speeds: Sequence[Speed], test: SpeedTest) -> tuple[float, ...]:
    return next((speed.tps for speed in speeds if speed.test == test), ())


def _in_speed(
    a: str,
    b: str,
    test: SpeedTest,
    of_a: Sequence[float],
    of_b: Sequence[float],
    seed: int,
    n_resamples: int,
) -> Difference:
    n = min(len(of_a), len(of_b))  # LEAST_ROUNDS or more
    logs = np.log(np.array(of_b[:n]) / np.array(of_a[:n]))
    middle = float(np.median(logs))
    value = math.expm1(middle)
    replicates = bootstrap.medians(logs, n_resamples, [seed])
    low, high = bootstrap.interval(middle, replicates, n)
    return Difference(
        a,
        b,
        test.name,
        value,
        math.expm1(low) - SPEED_ALLOWANCE,
        math.expm1(min(high, _MOST_LOG)) + SPEED_ALLOWANCE,
    )
