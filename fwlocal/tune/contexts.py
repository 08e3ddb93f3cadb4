"""Questions whose settings are a context's: the model is loaded once, and two contexts of it, made
as a chat's would be with either options, are timed in turns. There are never more than two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fwlocal import llama
from fwlocal.bench.context_tests import ContextTests
from fwlocal.bench.measured import Entrant
from fwlocal.bench.opening import Opened, plan_level
from fwlocal.bench.result import SpeedTest
from fwlocal.errors import FwlocalError
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.loader.native_plan import context_options
from fwlocal.offload import OffloadPlan
from fwlocal.offload.context import rounded_n_ctx
from fwlocal.tune.decision import Pair
from fwlocal.tune.descent import in_turns
from fwlocal.tune.estimate import Cost
from fwlocal.tune.questions import Question

_SEED = 0  # of the tokens, which are the same for both


@dataclass(frozen=True)
class Once:
    """Seconds of each test, and what the trial cost with all that is not timed."""

    tests_s: tuple[float, ...]
    cost: Cost


class Contexts:
    """Times options on the ``opened`` model of ``entrant``; ``n_planned`` tokens are planned for,
    as by a chat, whatever the tests need. Any call raises Interrupted when ``interrupt`` is set."""

    def __init__(
        self, entrant: Entrant, opened: Opened, n_planned: int, interrupt: Interrupt
    ) -> None:
        self._entrant, self._opened, self._n_planned = entrant, opened, n_planned
        self._interrupt = interrupt
        self._kept: tuple[object, _Warm] | None = None  # of the options that are best so far

    def __enter__(self) -> Contexts:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()

    def time(
        self, question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
    ) -> list[Pair]:
        """As descent's Timing. Raises DoesNotFit, and FwlocalError for what llama.cpp refuses or
        what would move layers."""
        tests = question.tests
        one = self._best(best, tests)
        with self._context(candidate, tests) as other:
            return in_turns(
                lambda: _seconds(one.runner, tests), lambda: _seconds(other.runner, tests), n_pairs
            )

    def once(self, options: EngineOptions, tests: Sequence[SpeedTest]) -> Once:
        """What each test takes, run once."""
        self._forget()
        started = time.perf_counter()
        with self._context(options, tests) as one:
            made = time.perf_counter()
            tests_s = _seconds(one.runner, tests)
            ended = time.perf_counter()
        return Once(tests_s, Cost(made - started, ended - made))

    def _best(self, options: EngineOptions, tests: tuple[SpeedTest, ...]) -> _Warm:
        """The context of the options that the others are timed against: made once for all of a
        question's candidates."""
        if self._kept is None or self._kept[0] != (options, tests):
            self._forget()
            self._kept = (options, tests), self._context(options, tests)
        return self._kept[1]

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept[1].close()
        self._kept = None

    def _context(self, options: EngineOptions, tests: Sequence[SpeedTest]) -> _Warm:
        settled = plan_level(self._entrant, options, self._n_planned, self._interrupt)
        if _split(settled.plan) != _split(self._opened.settled.plan):
            raise FwlocalError("its buffers would push layers off a GPU")
        most = max(test.n_depth + test.n_prompt + test.n_gen for test in tests)
        n_ctx = rounded_n_ctx(most + 1)  # warming up decodes a token behind the prompt
        native = replace(context_options(settled.plan, settled.site.n_threads), n_ctx=n_ctx)
        context = llama.Context(self._opened.model, native, self._interrupt.is_set)
        return _Warm(self._opened.model, context, tests, self._interrupt)


class _Warm:
    """A context that has computed what the tests compute, freed at the end."""

    def __init__(
        self,
        model: llama.Model,
        context: llama.Context,
        tests: Sequence[SpeedTest],
        interrupt: Interrupt,
    ) -> None:
        self._context = context
        self.runner = ContextTests(model, context, _SEED, interrupt)
        try:
            self.runner.warm_up(tests)
        except BaseException:
            context.close()
            raise

    def __enter__(self) -> _Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it."""
        self._context.close()


def _seconds(runner: ContextTests, tests: Sequence[SpeedTest]) -> tuple[float, ...]:
    """The shallow test first, whose tokens the deep one goes on from."""
    return tuple(runner.run(test).seconds for test in tests)


def _split(plan: OffloadPlan) -> tuple[tuple[str, int], ...]:
    """Which device has how many layers."""
    return tuple((share.device, share.n_layers) for share in plan.shares)
