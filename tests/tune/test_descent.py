"""One setting after the other: screened, timed again, taken or not; by timings made up here."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fwlocal.bench.result import SpeedTest
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted
from fwlocal.loader import EngineOptions
from fwlocal.tune.decision import Pair
from fwlocal.tune.descent import N_SCREENED, answer, in_turns
from fwlocal.tune.questions import Candidate, Question

THREADS = Question(
    "n_threads",
    "4",
    tuple(Candidate(str(n), {"n_threads": n}) for n in (1, 2, 8)),
    (SpeedTest(0, 16),),
)
START = EngineOptions(n_threads=4)
LOSSY = Question(
    "kv_type", "f16", (Candidate("q8_0", {"kv_type": "q8_0"}),), THREADS.tests, lossy=True
)


class Clock:
    """``speeds`` are those of each candidate beside the start; a refusal is raised."""

    def __init__(self, speeds: Mapping[object, float | FwlocalError]) -> None:
        self.speeds = speeds
        self.calls: list[tuple[object, int]] = []

    def __call__(
        self, question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
    ) -> list[Pair]:
        value = getattr(candidate, question.setting)
        self.calls.append((value, n_pairs))
        speed = self.speeds[value]
        if isinstance(speed, FwlocalError):
            raise speed
        jitter = 0.001 * len(self.calls)
        return [Pair((speed + jitter,), (1.0,)) for _ in range(n_pairs)]


def test_the_fastest_is_timed_again_and_taken() -> None:
    clock = Clock({1: 0.5, 2: 1.1, 8: 1.4})

    found = answer(THREADS, START, clock, 6)

    assert clock.calls == [(1, N_SCREENED), (2, N_SCREENED), (8, N_SCREENED), (8, 6)]
    assert found.options == EngineOptions(n_threads=8)
    assert found.changes == (("n_threads", 8),)
    assert (found.finding.best, found.finding.verdict) == ("8", "taken")
    assert found.finding.ratio == pytest.approx(1.404)


def test_the_default_stays_where_nothing_is_faster() -> None:
    clock = Clock({1: 0.5, 2: 0.9, 8: 0.95})

    found = answer(THREADS, START, clock, 6)

    assert len(clock.calls) == 3, "nothing is timed again"
    assert (found.options, found.changes) == (START, ())
    assert (found.finding.best, found.finding.verdict, found.finding.ratio) == (
        "4",
        "default",
        None,
    )


def test_a_lucky_screening_is_not_enough() -> None:
    class Lucky(Clock):
        def __call__(
            self, question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
        ) -> list[Pair]:
            ratio = 2.0 if n_pairs == N_SCREENED else 1.0
            return [Pair((ratio,), (1.0,))] * n_pairs

    found = answer(THREADS, START, Lucky({}), 6)

    assert (found.finding.verdict, found.options) == ("noise", START)
    assert found.finding.ratio == pytest.approx(1.0)


def test_what_a_busy_machine_timed_tells_nothing() -> None:
    class Busy(Clock):
        def __call__(
            self, question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
        ) -> list[Pair]:
            ratios = (6.0, 6.2, 0.8, 40.0, 6.1, 0.9)
            return [Pair((ratio,), (1.0,)) for ratio in ratios[:n_pairs]]

    found = answer(THREADS, START, Busy({}), 6)

    assert (found.finding.verdict, found.options) == ("noisy", START)


def test_what_is_refused_is_left_out() -> None:
    clock = Clock({1: 1.2, 2: DoesNotFit("too large"), 8: FwlocalError("no")})

    found = answer(THREADS, START, clock, 6)

    assert found.finding.best == "1"
    assert found.finding.verdict == "taken"


def test_where_all_are_refused_the_first_reason_is_told() -> None:
    refusal = DoesNotFit("too large")
    clock = Clock({1: refusal, 2: refusal, 8: refusal})

    found = answer(THREADS, START, clock, 6)

    assert (found.finding.verdict, found.finding.note) == ("none", "1: too large")


def test_ctrl_c_is_no_refusal() -> None:
    with pytest.raises(Interrupted):
        answer(THREADS, START, Clock({1: Interrupted()}), 6)


def test_without_candidates_nothing_is_timed() -> None:
    clock = Clock({})
    question = Question("numa", "none", why_none="one node, nothing to choose")

    found = answer(question, START, clock, 6)

    assert (clock.calls, found.finding.verdict) == ([], "none")
    assert found.finding.note == "one node, nothing to choose"


@pytest.mark.parametrize(("allowed", "verdict"), [(False, "lossy"), (True, "taken")])
def test_what_changes_answers_must_be_allowed(allowed: bool, verdict: str) -> None:
    found = answer(LOSSY, START, Clock({"q8_0": 1.5}), 6, allow_lossy=allowed)

    assert found.finding.verdict == verdict
    assert found.finding.ratio == pytest.approx(1.502), "it is shown in both cases"
    assert (found.options.kv_type == "q8_0") == allowed


def test_a_gain_that_one_test_pays_for_is_not_taken() -> None:
    question = Question(
        "flash_attn",
        "off",
        (Candidate("on", {"flash_attn": "on"}),),
        (SpeedTest(512, 0), SpeedTest(0, 16, 2048)),
    )

    def timing(
        question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
    ) -> list[Pair]:
        return [Pair((10.0, 1.0), (5.0, 2.0))] * n_pairs

    found = answer(question, START, timing, 6)

    assert found.finding.verdict == "noise"
    assert found.finding.note == "slower in tg16 @ d2048"


def test_turns_alternate() -> None:
    order = []

    def timed(name: str) -> tuple[float, ...]:
        order.append(name)
        return (float(len(order)),)

    found = in_turns(lambda: timed("a"), lambda: timed("b"), 3)

    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [pair.best for pair in found] == [(1.0,), (4.0,), (5.0,)]
