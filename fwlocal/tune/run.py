"""A run of all questions on one model: facts, estimate, descent; and what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from fwlocal import hardware, llama
from fwlocal.bench import page_cache
from fwlocal.bench.measured import Entrant
from fwlocal.bench.opening import Opened, open_level
from fwlocal.bench.result import SpeedTest
from fwlocal.draft import KnownWidths
from fwlocal.errors import Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.loader.remembered import placed
from fwlocal.offload import default_n_ctx, footprint
from fwlocal.splits import parts_of
from fwlocal.store import ModelFile
from fwlocal.tune.contexts import Contexts
from fwlocal.tune.descent import Answered, Timing, answer
from fwlocal.tune.estimate import Cost, Span, about, span
from fwlocal.tune.exactness import Exactness, find_out
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
_N_TRIES = 3  # of which the fastest counts, where one is quick: others may be at work as well
_QUICK_S = 5.0
_N_EXACT = 150  # tokens whose time it takes to find out what is exact
_KV_BLOCK = 32  # elements in a block of a quantized cache
_PROCESS_S = 0.7  # to start a child, about


@dataclass(frozen=True)
class Wish:
    """What is to be tuned: the settings named ``only``, or all; each decision by ``n_pairs``."""

    only: tuple[str, ...] = ()
    n_pairs: int = N_PAIRS
    allow_lossy: bool = False


@dataclass(frozen=True)
class Heard:
    """Whom a run tells: how many seconds it will take, about, where there is anything to try; then
    each finding as it is made, and how many tokens at once are exact."""

    estimate: Callable[[float], None] = lambda seconds: None
    asking: Callable[[Question], None] = lambda question: None
    found: Callable[[Finding], None] = lambda finding: None
    exact: Callable[[KnownWidths], None] = lambda known: None


@dataclass(frozen=True)
class Outcome:
    """What a run found; ``exact`` None where that was not asked, or is of no use."""

    tuned: Tuned
    exact: Exactness | None


class Run:
    """Tunes ``entrant`` from ``options``, in which nothing that is to be found may be asked for.
    Raises Interrupted when ``interrupt`` is set. It keeps nothing."""

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
        self._token_s = 0.0  # of decoding; known after a first try
        self._answers: list[Answered] = []

    def measure(self) -> Outcome:
        """Ask everything. Raises DoesNotFit, BadModelFile, Interrupted."""
        # As the loads have it that are timed, of which this one tells how long they take.
        page_cache.bring_in(parts_of(self._entrant.file.path), self._interrupt)
        with open_level(
            self._entrant, self._options, self._n_ctx, interrupt=self._interrupt
        ) as opened:
            opened.context().close()
            with Contexts(self._entrant, opened, self._n_ctx, self._interrupt) as contexts:
                asked = self._questions(opened, contexts)
                self._estimate(asked, contexts, opened.load_s)
                self._ask([q for q in asked if not q.by_load], contexts.time)
            exact = None if self._wish.only else self._find_out(opened.model)
            plan, gpus = opened.settled.plan, opened.settled.site.machine.gpus
        loads = Loads(self._entrant, self._n_ctx, self._interrupt)
        self._ask([q for q in asked if q.by_load], loads.time)
        return Outcome(self._tuned(this_machine(gpus, llama.build_info()), placed(plan)), exact)

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
        tests = SpeedTest(n_prompt, 0), SpeedTest(0, _TRY_GEN)
        tries = [contexts.once(self._options, tests).tests_s]
        if sum(tries[0]) < _QUICK_S:
            tries += (contexts.once(self._options, tests).tests_s for _ in range(_N_TRIES - 1))
        prefill_s, decode_s = map(min, zip(*tries, strict=True))
        self._token_s = decode_s / _TRY_GEN
        return sizes_for(n_prompt / prefill_s, 1 / self._token_s, self._trained)

    def _estimate(self, asked: Sequence[Question], contexts: Contexts, load_s: float) -> None:
        """Tell how long it takes, by running each question's tests once."""
        known: dict[tuple[SpeedTest, ...], Cost] = {}
        spans = []
        for question in (q for q in asked if q.candidates):
            if question.tests not in known:
                known[question.tests] = contexts.once(self._options, question.tests).cost
            cost = known[question.tests]
            if question.by_load:
                cost = Cost(0.0, cost.trial_s + load_s + _PROCESS_S)
            spans.append(span(question, cost, self._wish.n_pairs))
        if not self._wish.only:
            spans.append(Span(_N_EXACT * self._token_s, _N_EXACT * self._token_s))
        if spans:
            self._heard.estimate(about(spans))

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

    def _find_out(self, model: llama.Model) -> Exactness | None:
        found = find_out(self._entrant, model, self._options, self._n_ctx, self._interrupt)
        if self._interrupt.is_set():
            raise Interrupted(exit_code=self._interrupt.exit_code)
        if found is not None:
            self._heard.exact(found.known)
        return found

    def _tuned(self, where: Where, placed_on: str) -> Tuned:
        changes: dict[str, object] = {}
        for answered in self._answers:
            changes.update(answered.changes)
        findings = sorted(
            (answered.finding for answered in self._answers),
            key=lambda finding: SETTINGS.index(finding.setting),
        )
        return Tuned(
            model=called(self._entrant.file),
            shape=shape_of(self._entrant.header),
            where=where,
            placed=placed_on,
            settings=Settings(**changes),  # type: ignore[arg-type]
            findings=tuple(findings),
            made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


def called(file: ModelFile) -> str:
    """A model's name for people, the same wherever its settings are told."""
    return f"{file.name}:{file.level}" if file.level else file.name
