"""Whether a candidate is better than what it was timed against, beyond noise. Pure.

A pair is the same work done by both, one right after the other, so that what slows the machine for
a while slows both. The figure is the median of the pairs' ratios; its interval comes from
resampling pairs (``fwlocal.bench.bootstrap``, stretched for their small number).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_GAIN = 1.02  # times as fast: less is not worth another setting than the default
MOST_LOSS = 0.98  # ... that a single test may lose where another one gains
WIDEST = 2.0  # times the interval's lower end that its upper one may be: wider tells nothing
_N_RESAMPLES = 2000
_FAR = 20.0  # a logarithm beyond which an interval says nothing; two pairs that differ reach it


@dataclass(frozen=True)
class Pair:
    """Seconds of each test of a question: by what is best so far, and by the candidate."""

    best: tuple[float, ...]
    candidate: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as fast the candidate was, all tests together."""
        return sum(self.best) / sum(self.candidate)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast a candidate is, and the interval that 95 % of resamples lie in."""

    ratio: float
    low: float
    high: float

    @property
    def is_noisy(self) -> bool:
        """Something else took the machine's time meanwhile: nothing can be told from it."""
        return self.high > WIDEST * self.low

    @property
    def is_better(self) -> bool:
        """Beyond noise, and by enough to matter."""
        return self.low > 1 and self.ratio >= LEAST_GAIN


def median_ratio(pairs: Sequence[Pair]) -> float:
    """Of at least one pair."""
    return math.exp(_median([math.log(pair.ratio) for pair in pairs]))


def ratio_of(pairs: Sequence[Pair], seed: int = 0) -> Ratio:
    """Of at least two pairs; the same for the same pairs and seed."""
    import numpy as np

    from fwlocal.bench.bootstrap import interval, medians

    logs = np.log([pair.ratio for pair in pairs])
    middle = float(np.median(logs))
    low, high = interval(middle, medians(logs, _N_RESAMPLES, (seed,)), len(pairs))
    return Ratio(*(math.exp(max(-_FAR, min(_FAR, value))) for value in (middle, low, high)))


def slower_test(pairs: Sequence[Pair]) -> int | None:
    """The index of the first test that the candidate loses too much at; None for none."""
    for index in range(len(pairs[0].best)):
        logs = [math.log(pair.best[index] / pair.candidate[index]) for pair in pairs]
        if math.exp(_median(logs)) < MOST_LOSS:
            return index
    return None


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return (ordered[half] + ordered[-1 - half]) / 2
