"""Questions whose settings are a load's: every trial is a process of its own, which loads the
model, reads a prompt and writes an answer. Memory is then given back for the next one, and what
holds for a whole process (NUMA) can be tried, too. The file is in memory before."""

from __future__ import annotations

from dataclasses import dataclass

from fwlocal.bench import page_cache
from fwlocal.bench.measured import Entrant
from fwlocal.bench.result import SpeedTest
from fwlocal.children import Child, ChildDied, ChildFailed
from fwlocal.errors import FwlocalError, Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.splits import parts_of
from fwlocal.store import ModelFile
from fwlocal.tune.decision import Pair
from fwlocal.tune.descent import in_turns
from fwlocal.tune.questions import Question

PROCESS = "fwlocal.tune.load_process"
_POLL_S = 0.05  # how soon Ctrl-C is heard


@dataclass(frozen=True)
class LoadTrial:
    """Load ``file`` with ``options`` for contexts of ``n_ctx`` tokens, and run ``tests`` once."""

    file: ModelFile
    options: EngineOptions
    tests: tuple[SpeedTest, ...]
    n_ctx: int


@dataclass(frozen=True)
class LoadTimes:
    """Seconds of the load, with its context, and of each test, of which none was run before."""

    load_s: float
    tests_s: tuple[float, ...]


class Loads:
    """Times loads of ``entrant``. Any call raises Interrupted when ``interrupt`` is set."""

    def __init__(self, entrant: Entrant, n_ctx: int, interrupt: Interrupt) -> None:
        self._entrant, self._n_ctx, self._interrupt = entrant, n_ctx, interrupt

    def time(
        self, question: Question, best: EngineOptions, candidate: EngineOptions, n_pairs: int
    ) -> list[Pair]:
        """As descent's Timing. Raises FwlocalError where a load fails or llama.cpp ends the process
        that tries it."""
        page_cache.bring_in(parts_of(self._entrant.file.path), self._interrupt)
        return in_turns(
            lambda: self._seconds(best, question.tests),
            lambda: self._seconds(candidate, question.tests),
            n_pairs,
        )

    def _seconds(self, options: EngineOptions, tests: tuple[SpeedTest, ...]) -> tuple[float, ...]:
        trial = LoadTrial(self._entrant.file, options, tests, self._n_ctx)
        with Child(PROCESS) as child:
            try:
                child.send(trial)
                times = self._received(child)
            except (ChildDied, ChildFailed) as error:
                raise FwlocalError(f"the load failed: {error}") from error
        return (times.load_s, *times.tests_s)

    def _received(self, child: Child) -> LoadTimes:
        while True:
            if self._interrupt.is_set():
                raise Interrupted(exit_code=self._interrupt.exit_code)
            try:
                times: LoadTimes = child.receive(_POLL_S)
            except TimeoutError:
                continue
            return times
