"""A run of all questions on one model: facts, estimate, descent; and what it found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from fwlocal import hardware, llama
from fwlocal.bench.measured import Entrant
from fwlocal.bench.opening import Opened, open_level
from fwlocal.bench.result import SpeedTest
from fwlocal.draft import KnownWidths
from fwlocal.errors import Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.loader.remembered import placed
from fwlocal.offload import default_n_ctx, footprint
from fwlocal.tune.contexts import Contexts
from fwlocal.tune.descent import Answered, Timing, answer, n_trials
from fwlocal.tune.exactness import find_out
from fwlocal.tune.loads import Loads
from fwlocal.tune.questions import (
    SETTINGS,
    Cores,
    Facts,
    Question,
    Sizes,
    named,
    questions,
    sizes_for,
)
from fwlocal.tune.system import memory_system
from fwlocal.tuned import Finding, Settings, Tuned, Where, shape_of, this_machine

N_PAIRS = 6
_TRY_PROMPT, _TRY_GEN = 128, 8  # tokens that tell how fast a model is, about
_KV_BLOCK = 32  # elements in a block of a quantized cache
_PROCESS_S = 1.5  # to start a child, about


@dataclass(frozen=True)
class Wish:
    """What is to be tuned: the settings named ``only``, or all; each decision by ``n_pairs``."""

    only: tuple[str, ...] = ()
    n_pairs: int = N_PAIRS
    allow_lossy: bool = False


@dataclass(frozen=True)
class Heard:
    """Whom a run tells: how many seconds it will take, about, then each finding as it is made, and
    how many tokens at once are exact."""

    estimate: Callable[[float], None] = lambda seconds: None
    asking: Callable[[Question], None] = lambda question: None
    found: Callable[[Finding], None] = lambda finding: None
    exact: Callable[[KnownWidths], None] = lambda known: None


class Run:
    """Tunes ``entrant`` from ``options``, in which nothing that is to be found may be asked for.
    Raises Interrupted when ``interrupt`` is set; nothing is kept before the end."""

    def __init__(
        self,
        entrant: Entrant,
        options: EngineOptions,
        wish: Wish,
        heard: Heard,
        interrupt: Interrupt,
    ) -> None:
        n_threads = options.n_threads or hardware.default_threads()
        # Named both, so that the threads of one do not change those of the other.
        self._options = replace(
            options, tuned=False, n_threads=n_threads, n_threads_batch=n_threads
        )
        self._entrant, self._wish, self._heard = entrant, wish, heard
        self._interrupt = interrupt
        self._trained = entrant.header.number("{arch}.context_length") or 0
        self._n_ctx = default_n_ctx(self._trained)
        self._answers: list[Answered] = []

    def measure(self) -> Tuned:
        """Ask everything. Raises DoesNotFit, BadModelFile, Interrupted."""
        with open_level(
            self._entrant, self._options, self._n_ctx, interrupt=self._interrupt
        ) as opened:
            opened.context().close()
            with Contexts(self._entrant, opened, self._n_ctx, self._interrupt) as contexts:
                asked = self._questions(opened, contexts)
                self._estimate(asked, contexts, opened.load_s)
                self._ask([q for q in asked if not q.by_load], contexts.time)
            if not self._wish.only:
                self._find_out(opened.model)
            plan, gpus = opened.settled.plan, opened.settled.site.machine.gpus
        loads = Loads(self._entrant, self._n_ctx, self._interrupt)
        self._ask([q for q in asked if q.by_load], loads.time)
        return self._tuned(this_machine(gpus, llama.build_info()), placed(plan))

    def _questions(self, opened: Opened, contexts: Contexts) -> tuple[Question, ...]:
        facts = Facts(
            cores=Cores(
                hardware.performance_cores(), hardware.physical_cores(), hardware.logical_cores()
            ),
            plan=opened.settled.plan,
            n_threads=opened.settled.plan.n_threads or opened.settled.site.n_threads,
            sizes=self._sizes(contexts),
            weights_bytes=opened.settled.plan.host.weights_bytes,
            available_bytes=hardware.memory().available_bytes,
            memory=memory_system(),
            has_quantized_kv=all(
                size % _KV_BLOCK == 0 for size in footprint(self._entrant.header).head_sizes
            ),
        )
        return tuple(named(questions(facts), self._wish.only))

    def _sizes(self, contexts: Contexts) -> Sizes:
        n_prompt = min(_TRY_PROMPT, (self._trained or self._n_ctx) // 2)
        prefill_s, decode_s = contexts.once(
            self._options, (SpeedTest(n_prompt, 0), SpeedTest(0, _TRY_GEN))
        )
        return sizes_for(n_prompt / prefill_s, _TRY_GEN / decode_s, self._trained)

    def _estimate(self, asked: Sequence[Question], contexts: Contexts, load_s: float) -> None:
        """Tell how long it takes, by running each question's tests once: what is timed of them is
        repeated for every trial, and all of it for every context."""
        known: dict[tuple[SpeedTest, ...], tuple[float, float]] = {}
        total_s = 0.0
        for question in (q for q in asked if q.candidates):
            if question.tests not in known:
                started = time.perf_counter()
                tests_s = sum(contexts.once(self._options, question.tests))
                known[question.tests] = tests_s, time.perf_counter() - started
            tests_s, all_s = known[question.tests]
            n_timed = n_trials(question, self._wish.n_pairs)
            if question.by_load:
                total_s += n_timed * (tests_s + load_s + _PROCESS_S)
            else:
                total_s += n_timed * tests_s + (len(question.candidates) + 2) * all_s
        self._heard.estimate(total_s)

    def _ask(self, asked: Sequence[Question], timing: Timing) -> None:
        for question in asked:
            self._heard.asking(question)
            answered = answer(
                question,
                self._options,
                timing,
                self._wish.n_pairs,
                allow_lossy=self._wish.allow_lossy,
            )
            self._answers.append(answered)
            self._options = answered.options
            self._heard.found(answered.finding)

    def _find_out(self, model: llama.Model) -> None:
        known = find_out(self._entrant, model, self._options, self._n_ctx, self._interrupt)
        if self._interrupt.is_set():
            raise Interrupted(exit_code=self._interrupt.exit_code)
        if known is not None:
            self._heard.exact(known)

    def _tuned(self, where: Where, placed_on: str) -> Tuned:
        changes: dict[str, object] = {}
        for answered in self._answers:
            changes.update(answered.changes)
        findings = sorted(
            (answered.finding for answered in self._answers),
            key=lambda finding: SETTINGS.index(finding.setting),
        )
        file = self._entrant.file
        return Tuned(
            model=f"{file.name}:{file.level}" if file.level else file.name,
            shape=shape_of(self._entrant.header),
            where=where,
            placed=placed_on,
            settings=Settings(**changes),  # type: ignore[arg-type]
            findings=tuple(findings),
            made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
