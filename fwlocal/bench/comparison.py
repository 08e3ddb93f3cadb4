"""Two benchmark results side by side: what differs between the runs, and what in their figures is
a difference and what is noise. Pure.

Levels are matched by label. A difference is ``b`` less ``a`` in the measure's own unit, with an
interval of 95 %; noise holds zero in it. Where the interval comes from:

- perplexity and mean KLD of the same text, context and chunks: a bootstrap over the chunks' paired
  differences, for hard chunks are hard in both runs; else, and for the other quality figures, the
  standard errors of both (of the chunks' means where there are some);
- speeds: a bootstrap of both medians over each run's rounds, which do not pair, and
  ``SPEED_ALLOWANCE`` beside it; with one round ``UNKNOWN_SPREAD``, as for every time and energy of
  which a result holds one figure alone;
- memory and sizes are facts, and are listed where they differ.

A figure without any standard error, such as the largest KLD, is not compared; nor, where two runs
have different references, what tells how far off those are: all quality but perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fwlocal.bench import bootstrap
from fwlocal.bench.bootstrap import Doubles
from fwlocal.bench.circumstances import (
    has_the_same_reference,
    of_level,
    of_runs,
    reads_the_same,
)
from fwlocal.bench.result import (
    Answers,
    BenchResult,
    LevelResult,
    Quality,
    Speed,
    Value,
)
from fwlocal.bench.statistics import (
    ALLOWANCE,
    LEAST_ROUNDS,
    N_RESAMPLES,
    SPEED_ALLOWANCE,
    UNKNOWN_SPREAD,
    error_of_means,
)

# Measure, unit; all but the first are of a distance from the reference.
_QUALITY = (
    ("ppl", ""),
    ("ppl_ratio", ""),
    ("kld_mean", "nats"),
    ("kld_median", "nats"),
    ("kld_95", "nats"),
    ("kld_99", "nats"),
    ("kld_99_9", "nats"),
    ("top1", "share"),
    ("dp_mean", "share"),
    ("dp_rms", "share"),
)
_MOST_LOG = 700.0  # the exponential of more is no float64
_BY_CHUNK = {"ppl": "nll_by_chunk", "kld_mean": "kld_by_chunk"}


@dataclass(frozen=True)
class Row:
    """One level's measure in both runs: ``difference`` is ``b`` less ``a``, ``low`` and ``high``
    are its interval, all in ``unit``: "tok/s", "s", "B", "J/token", "nats", "share" (of 1), "".
    ``a_se`` and ``b_se`` are the figures' own standard errors, where they have some; the interval
    ``is_assumed`` where ``UNKNOWN_SPREAD`` gave it."""

    label: str
    measure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    is_noise: bool
    unit: str
    a_se: float | None = None
    b_se: float | None = None
    is_assumed: bool = False

    @property
    def is_same(self) -> bool:
        """Whether both figures are equal to the last digit."""
        return self.difference == 0


@dataclass(frozen=True)
class Comparison:
    """Two runs: ``contexts`` are lines on what differs between them besides the figures, ``only_a``
    and ``only_b`` the levels that one of them has."""

    a_name: str
    b_name: str
    contexts: tuple[str, ...]
    rows: tuple[Row, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Alike:
    """What two runs share: chunk i of the text, and the reference."""

    chunks: bool
    reference: bool


def compare(
    a: BenchResult, b: BenchResult, a_name: str = "A", b_name: str = "B", seed: int = 0
) -> Comparison:
    """The comparison, with what the runs are called in it."""
    of_b = {level.label: level for level in b.levels}
    both = [(level, of_b[level.label]) for level in a.levels if level.label in of_b]
    labels = {x.label for x, _ in both}
    alike = _Alike(reads_the_same(a, b), has_the_same_reference(a, b))
    rows = [row for x, y in both for row in _rows(x, y, alike, seed)]
    names = (a_name, b_name)
    return Comparison(
        a_name,
        b_name,
        (*of_runs(a, b, names), *(line for x, y in both for line in of_level(x, y, names))),
        tuple(rows),
        tuple(level.label for level in a.levels if level.label not in labels),
        tuple(level.label for level in b.levels if level.label not in labels),
    )


def _rows(x: LevelResult, y: LevelResult, alike: _Alike, seed: int) -> Iterator[Row]:
    for speed in x.speeds:
        other = y.speed(speed.test)
        if other is not None:
            yield _speed_row(x.label, speed, other, seed)
    yield from _single_figures(x, y)
    yield from _facts(x, y)
    if x.quality is not None and y.quality is not None:
        yield from _quality_rows(x.label, x.quality, y.quality, alike, seed)
    if x.answers is not None and y.answers is not None and alike.reference:
        yield from _answer_rows(x.label, x.answers, y.answers)


def _row(
    label: str, measure: str, unit: str, a: float, b: float, interval: tuple[float, float]
) -> Row:
    low, high = interval
    return Row(label, measure, a, b, b - a, low, high, low <= 0 <= high, unit)


def _about(difference: float, by: float) -> tuple[float, float]:
    return difference - by, difference + by


def _speed_row(label: str, a: Speed, b: Speed, seed: int) -> Row:
    of_a, of_b = a.median, b.median
    interval = _about(of_b - of_a, UNKNOWN_SPREAD * max(of_a, of_b))
    is_assumed = min(len(a.tps), len(b.tps)) < LEAST_ROUNDS
    if not is_assumed:
        low, high = _log_interval(np.log(a.tps), np.log(b.tps), seed)
        allowance = SPEED_ALLOWANCE * of_a
        interval = of_a * math.expm1(low) - allowance, of_a * math.expm1(high) + allowance
    row = _row(label, a.test.name, "tok/s", of_a, of_b, interval)
    return replace(row, is_assumed=is_assumed)


def _log_interval(a: Doubles, b: Doubles, seed: int) -> tuple[float, float]:
    """Of the difference of the medians, as of so many samples as the shorter has."""
    medians_a = bootstrap.medians(a, N_RESAMPLES, [seed, 0])
    medians_b = bootstrap.medians(b, N_RESAMPLES, [seed, 1])
    value = float(np.median(b) - np.median(a))
    return bootstrap.interval(value, medians_b - medians_a, min(len(a), len(b)))


def _single_figures(x: LevelResult, y: LevelResult) -> Iterator[Row]:
    """Times and energies, whose noise a result does not tell."""
    pairs = (
        ("load_warm", "s", x.load_warm_s, y.load_warm_s),
        ("load_cold", "s", x.load_cold_s, y.load_cold_s),
        ("prefill_energy", "J/token", *_energies(x, y, "prefill_j")),
        ("decode_energy", "J/token", *_energies(x, y, "decode_j")),
    )
    for measure, unit, a, b in pairs:
        if a is not None and b is not None and not math.isnan(a + b):
            interval = _about(b - a, UNKNOWN_SPREAD * max(a, b))
            yield replace(_row(x.label, measure, unit, a, b, interval), is_assumed=True)


def _energies(x: LevelResult, y: LevelResult, name: str) -> tuple[float | None, float | None]:
    return getattr(x.energy, name, None), getattr(y.energy, name, None)


def _facts(x: LevelResult, y: LevelResult) -> Iterator[Row]:
    """Bytes, which have no noise."""
    pairs = (
        ("size", x.size_bytes, y.size_bytes),
        ("memory", sum(d.total for d in x.devices), sum(d.total for d in y.devices)),
    )
    for measure, a, b in pairs:
        if a and b and a != b:
            yield _row(x.label, measure, "B", a, b, _about(b - a, 0.0))


def _quality_rows(label: str, a: Quality, b: Quality, alike: _Alike, seed: int) -> Iterator[Row]:
    pairs_up = alike.chunks and a.n_chunks == b.n_chunks
    for measure, unit in _QUALITY if alike.reference else _QUALITY[:1]:
        of_a, of_b = getattr(a, measure), getattr(b, measure)
        if math.isnan(of_a.value) or math.isnan(of_b.value):
            continue
        interval = _paired(measure, a, b, seed) if pairs_up else None
        interval = interval or _by_errors(_error(measure, a), _error(measure, b), of_a, of_b)
        if interval is not None:
            row = _row(label, measure, unit, of_a.value, of_b.value, interval)
            yield replace(row, a_se=of_a.se, b_se=of_b.se)


def _by_errors(
    a_se: float | None, b_se: float | None, a: Value, b: Value
) -> tuple[float, float] | None:
    if a_se is None or b_se is None:
        return None
    return _about(b.value - a.value, bootstrap.Z * math.hypot(a_se, b_se))


def _chunks(measure: str, quality: Quality) -> Doubles:
    """The means by chunk of what the measure is of; none for other measures."""
    name = _BY_CHUNK.get(measure)
    means: tuple[float, ...] = getattr(quality, name) if name else ()
    return np.array(means, dtype=np.float64)


def _error(measure: str, quality: Quality) -> float | None:
    """The standard error over chunks where it can be told, else the figure's own."""
    value: Value = getattr(quality, measure)
    over_chunks = error_of_means(_chunks(measure, quality).tolist())
    if over_chunks is None:
        return value.se
    return over_chunks * value.value if measure == "ppl" else over_chunks


def _paired(measure: str, a: Quality, b: Quality, seed: int) -> tuple[float, float] | None:
    """By chunk; None where the results do not hold the chunks' means, two at least."""
    of_a, of_b = _chunks(measure, a), _chunks(measure, b)
    if len(of_a) != len(of_b):
        return None
    excess = of_b - of_a
    excess = excess[~np.isnan(excess)]
    n = len(excess)
    if n < 2:
        return None
    replicates = bootstrap.ratios(excess[:, None], np.ones(n), N_RESAMPLES, [seed])[:, 0]
    low, high = _around(_difference(measure, a, b), excess, replicates)
    low, high = low - ALLOWANCE[measure], high + ALLOWANCE[measure]
    if measure == "ppl":
        return a.ppl.value * math.expm1(low), a.ppl.value * math.expm1(min(high, _MOST_LOG))
    return low, high


def _difference(measure: str, a: Quality, b: Quality) -> float:
    """``b`` less ``a``, of the perplexity in its logarithm."""
    if measure == "ppl":
        return math.log(b.ppl.value / a.ppl.value)
    return b.kld_mean.value - a.kld_mean.value


def _around(value: float, excess: Doubles, replicates: Doubles) -> tuple[float, float]:
    """The interval of the mean excess, about ``value``: that is weighted by positions, which NaN
    can make fewer in some chunks."""
    middle = float(excess.mean())
    low, high = bootstrap.interval(middle, replicates, len(excess))
    return value + low - middle, value + high - middle


def _answer_rows(label: str, a: Answers, b: Answers) -> Iterator[Row]:
    """The share of answers that are the reference's. The interval is by Agresti and Caffo (2000):
    as if each run had one more answer of either kind, for all of a few is no certainty."""
    n_a, n_b = len(a.first_difference), len(b.first_difference)
    if not n_a or not n_b:
        return
    of_a, of_b = (a.n_identical + 1) / (n_a + 2), (b.n_identical + 1) / (n_b + 2)
    variance = of_a * (1 - of_a) / (n_a + 2) + of_b * (1 - of_b) / (n_b + 2)
    interval = _about(of_b - of_a, bootstrap.Z * math.sqrt(variance))
    yield _row(label, "same_answers", "share", a.n_identical / n_a, b.n_identical / n_b, interval)
