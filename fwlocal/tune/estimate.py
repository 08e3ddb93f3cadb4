"""How long a run will take, from what each question's tests took once. Pure.

A question whose candidates are all slower ends with its screening; otherwise the best of them is
timed again. Which it will be is not known, so a run takes something between the least and the most:
their geometric mean is off by the same factor from both (2, for the default number of pairs).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fwlocal.tune.descent import N_SCREENED
from fwlocal.tune.questions import Question


@dataclass(frozen=True)
class Cost:
    """Seconds, with the default's settings: ``making_s`` of what tests are run on (a context,
    warmed up), and ``trial_s`` of all tests of a question, with what is done between them and not
    timed (filling the KV cache)."""

    making_s: float
    trial_s: float


@dataclass(frozen=True)
class Span:
    """Seconds that a question takes at least, and at most."""

    least_s: float
    most_s: float


def span(question: Question, cost: Cost, n_pairs: int) -> Span:
    """Nothing for a question without candidates."""
    if not question.candidates:
        return Span(0.0, 0.0)
    slower = sum(candidate.slower for candidate in question.candidates)
    n_trials = N_SCREENED * (len(question.candidates) + slower)
    least_s = cost.making_s * (1 + slower) + cost.trial_s * n_trials
    return Span(least_s, least_s + cost.making_s + cost.trial_s * 2 * n_pairs)


def about(spans: Iterable[Span]) -> float:
    """Seconds of them all, one after the other."""
    all_spans = tuple(spans)
    return math.sqrt(sum(one.least_s for one in all_spans) * sum(one.most_s for one in all_spans))
