"""From the defaults to what fits: one question after the other, each from what was found so far.

A candidate is first timed a few times, and the best of them then again, on fresh pairs that alone
decide: the luckiest of many would else pass for the fastest. How anything is timed, this module
does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fwlocal.errors import FwlocalError, Interrupted
from fwlocal.loader import EngineOptions
from fwlocal.tune.decision import Pair, Ratio, median_ratio, ratio_of, slower_test
from fwlocal.tune.questions import Candidate, Question
from fwlocal.tuned import Finding

N_SCREENED = 2  # pairs of each candidate, of which the best is timed again


class Timing(Protocol):
    """Times what both options take for a question's tests, in turns."""

    def __call__(
        self, question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
    ) -> list[Pair]: ...


@dataclass(frozen=True)
class Answered:
    """What came of a question, and the options to go on with."""

    finding: Finding
    options: EngineOptions
    changes: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class _Tried:
    candidate: Candidate
    ratio: float


def answer(
    question: Question,
    options: EngineOptions,
    timing: Timing,
    n_pairs: int,
    *,
    allow_lossy: bool = False,
) -> Answered:
    """Try a question's candidates from ``options``. What llama.cpp or the machine refuses is not
    taken. Raises Interrupted, and FwlocalError where even ``options`` cannot be timed."""
    if not question.candidates:
        return Answered(_found(question, "none", note=question.why_none), options)
    tried, refusals = _screen(question, options, timing)
    if not tried:
        return Answered(_found(question, "none", note=refusals[0]), options)
    best = max(tried, key=lambda one: one.ratio)
    if best.ratio <= 1:
        note = f"{best.candidate.label} is {best.ratio:.2f} times as fast"
        return Answered(_found(question, "default", note=note), options)
    changed = replace(options, **best.candidate.changes)
    pairs = timing(question, options, changed, n_pairs)
    finding = _judged(question, best.candidate, pairs, allow_lossy=allow_lossy)
    if finding.verdict != "taken":
        return Answered(finding, options)
    return Answered(finding, changed, tuple(best.candidate.changes.items()))


def _screen(
    question: Question, options: EngineOptions, timing: Timing
) -> tuple[list[_Tried], list[str]]:
    """The candidates that could be timed, and what the others were refused with."""
    tried, refusals = [], []
    for candidate in question.candidates:
        try:
            pairs = timing(question, options, replace(options, **candidate.changes), N_SCREENED)
        except Interrupted:
            raise
        except FwlocalError as error:
            refusals.append(f"{candidate.label}: {error}")
        else:
            tried.append(_Tried(candidate, median_ratio(pairs)))
    return tried, refusals


def _judged(
    question: Question, candidate: Candidate, pairs: Sequence[Pair], *, allow_lossy: bool
) -> Finding:
    found, slower = ratio_of(pairs), slower_test(pairs)
    if found.is_noisy:
        return _found(question, "noisy", candidate, found)
    if not found.is_better:
        return _found(question, "noise", candidate, found)
    if slower is not None and not question.by_load:
        note = f"slower in {question.tests[slower].name}"
        return _found(question, "noise", candidate, found, note)
    if question.lossy and not allow_lossy:
        note = "it changes answers; --allow-lossy takes it"
        return _found(question, "lossy", candidate, found, note)
    return _found(question, "taken", candidate, found)


def _found(
    question: Question,
    verdict: str,
    candidate: Candidate | None = None,
    ratio: Ratio | None = None,
    note: str = "",
) -> Finding:
    return Finding(
        setting=question.setting,
        default=question.default,
        best=candidate.label if candidate else question.default,
        verdict=verdict,
        ratio=ratio.ratio if ratio else None,
        low=ratio.low if ratio else None,
        high=ratio.high if ratio else None,
        note=note,
    )


def in_turns(
    one: Callable[[], tuple[float, ...]], other: Callable[[], tuple[float, ...]], n_pairs: int
) -> list[Pair]:
    """Both timed ``n_pairs`` times, one first and then the other first."""
    pairs = []
    for index in range(n_pairs):
        if index % 2:
            second = other()
            pairs.append(Pair(one(), second))
        else:
            first = one()
            pairs.append(Pair(first, other()))
    return pairs
