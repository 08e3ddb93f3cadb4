"""Answers many prompts: a free lane gets the next one at once, and all lanes decode together.

Prompts are evaluated one by one, in the batches that one alone would have. The first steps of each
kind are computed both alone and together, and only what is the same to the bit is done together
from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from fwlocal import llama
from fwlocal.answer import Answer
from fwlocal.errors import FwlocalError, UsageError
from fwlocal.interrupts import Interrupt
from fwlocal.parallel.job import Failed, Finished, Job
from fwlocal.parallel.lanes import Lanes
from fwlocal.parallel.prefix import is_tiled
from fwlocal.parallel.running import Running
from fwlocal.parallel.size import check_fits
from fwlocal.parallel.together import Together
from fwlocal.sampling import PENALTY_LAST_N

OTHERWISE = (
    "these devices round otherwise when several are decoded together: where two tokens are all but "
    "as likely, texts can differ from those of --parallel 1"
)
ALL_ALONE = (
    "this model is computed otherwise for several at once, so its answers are decoded one at a "
    "time, and their texts stay the same"
)
LONG_ALONE = (
    "beyond 256 tokens, answers are decoded one at a time here, so that their texts stay the same; "
    "--flash-attn off may decode those together, too"
)


class Pool:
    """Answers jobs in ``lanes``; ``tell`` gets lines for the user, ``on_token`` hears of every
    token. Once ``interrupt`` is set, no more answers come."""

    def __init__(
        self,
        model: llama.Model,
        lanes: Lanes,
        *,
        on_cpu: bool = True,
        load_s: float = 0.0,
        interrupt: Interrupt | None = None,
        tell: Callable[[str], None] = lambda line: None,
        on_token: Callable[[], None] = lambda: None,
    ) -> None:
        self._model, self._lanes, self._load_s = model, lanes, load_s
        self._interrupt = interrupt or Interrupt()
        self._tell, self._on_token = tell, on_token
        can_try = lanes.sequences.can_truncate
        self._together = Together(lanes.size.n_lanes, on_cpu=on_cpu, can_try=can_try)
        lanes.reuses = lanes.reuses and can_try
        self._running: dict[int, Running] = {}
        self._sure_prefixes: set[bool] = set()  # by whether they are computed in tiles
        self._told: set[str] = set()
        if not can_try:
            self._say_how()

    def answers(self, take: Callable[[], Job | None]) -> Iterator[Finished | Failed]:
        """The answers, as they come. ``take`` gives the next job, None when there is none now; it
        is asked again after every step, and None while nothing runs is the end."""
        while not self._interrupt.is_set():
            yield from self._fill(take)
            if not self._running or self._interrupt.is_set():
                return
            self._close_gaps()
            yield from self._make_room()
            yield from self._step()

    def _fill(self, take: Callable[[], Job | None]) -> Iterator[Finished | Failed]:
        """Begin jobs while there are free lanes."""
        n_lanes = self._lanes.size.n_lanes
        while len(self._running) < n_lanes and not self._interrupt.is_set():
            job = take()
            if job is None:
                return
            lane = next(n for n in range(n_lanes) if n not in self._running)
            try:
                running = self._begin(job, lane)
            except FwlocalError as error:
                yield Failed(job.key, error)
                continue
            if running is not None:
                self._running[lane] = running
                yield from self._finished([running])

    def _begin(self, job: Job, lane: int) -> Running | None:
        """Evaluate a prompt and choose the first token; None when it was stopped."""
        limit = self._lanes.size.limit
        if not job.tokens:
            raise UsageError("the prompt is empty")
        check_fits(len(job.tokens), limit)
        started = time.perf_counter()
        stages = [(stage.name, stage.arguments) for stage in job.sampling.stages]
        sampler = llama.Sampler(self._model, stages, job.sampling.grammar)
        sampler.remember(job.tokens[-PENALTY_LAST_N:])
        while len(job.tokens) >= self._lanes.n_ctx and self._grow():
            pass
        check_fits(len(job.tokens), self._lanes.n_ctx)
        reused = self._prefill(job.tokens, lane)
        if reused is None:
            return None
        room = limit - len(job.tokens)
        answer = Answer(job.stop, room if job.max_tokens is None else min(job.max_tokens, room))
        prefill_s = time.perf_counter() - started
        n_cached = len(job.tokens)
        running = Running(job, lane, sampler, answer, started, n_cached, reused, prefill_s)
        self._choose(running, 0, 1)
        return running

    def _prefill(self, prompt: tuple[int, ...], lane: int) -> int | None:
        """How many tokens were reused; None when it was stopped. The first time that any are, it is
        seen whether that makes a difference."""
        lanes, kind = self._lanes, is_tiled(len(prompt))
        reused = lanes.reusable(prompt)
        if not lanes.prefill(lane, prompt, reused):
            return None
        if reused and self._together.is_exact and kind not in self._sure_prefixes:
            found = lanes.sequences.logits(0, 1)
            if not lanes.prefill(lane, prompt, 0):
                return None
            self._sure_prefixes.add(kind)
            lanes.reuses = found == lanes.sequences.logits(0, 1)
            reused = 0
        if not reused and lanes.reuses:
            lanes.keep(lane, prompt)
        return reused if lanes.reuses else 0

    def _step(self) -> Iterator[Finished]:
        """Evaluate one token of each that runs, as many at once as may be."""
        waiting = sorted(self._running.values(), key=lambda running: running.lane)
        while waiting and not self._interrupt.is_set():
            n_first = waiting[0].n_cached + 1
            ready = [r for r in waiting if self._together.same_kind(n_first, r.n_cached + 1)]
            longest = max(running.n_cached + 1 for running in ready)
            width, is_new = self._together.width(longest, len(ready))
            chosen = ready[:width]
            if is_new and not self._try(chosen, longest):
                continue
            if not is_new:
                self._lanes.sequences.step([running.next_token for running in chosen])
            for row, running in enumerate(chosen):
                running.n_cached += 1
                self._choose(running, row, width)
            yield from self._finished(chosen)
            waiting = [running for running in waiting if running not in chosen]

    def _try(self, chosen: Sequence[Running], longest: int) -> bool:
        """Evaluate the next token of each alone, then all together; whether it is the same. Where
        it is not, nothing was evaluated."""
        sequences, width = self._lanes.sequences, len(chosen)
        alone = []
        for running in chosen:
            sequences.step([running.next_token])
            alone.append(sequences.logits(0, 1))
            sequences.truncate(running.lane, running.n_cached)
        sequences.step([running.next_token for running in chosen])
        is_same = alone == [sequences.logits(row, width) for row in range(width)]
        self._together.note(longest, width, is_same=is_same)
        if not is_same:
            for running in chosen:
                sequences.truncate(running.lane, running.n_cached)
            self._say_how()
        return is_same

    def _choose(self, running: Running, row: int, n_rows: int) -> None:
        token = running.sampler.sample(self._lanes.sequences, row - n_rows)
        running.take(token, self._model)
        self._on_token()

    def _finished(self, chosen: Sequence[Running]) -> Iterator[Finished]:
        """Those of them that have ended, whose lanes are free now."""
        for running in chosen:
            if running.answer.finish_reason is not None:
                del self._running[running.lane]
                yield Finished(running.job.key, running.result(self._model, self._load_s))

    def _close_gaps(self) -> None:
        """Move the last lanes into free ones before them: only neighbours are computed at once."""
        for lane in range(len(self._running)):
            if lane not in self._running:
                running = self._running.pop(max(self._running))
                self._lanes.sequences.copy(running.lane, lane)
                running.lane = lane
                self._running[lane] = running

    def _make_room(self) -> Iterator[Finished]:
        """Grow lanes that are full; where there is no memory, their answers are cut."""
        full = [r for r in self._running.values() if r.n_cached >= self._lanes.n_ctx]
        if full and not self._grow():
            for running in full:
                running.answer.finish_reason = "length"
            yield from self._finished(full)

    def _grow(self) -> bool:
        if self._lanes.n_ctx >= self._lanes.size.limit:
            return False
        cached = {running.lane: running.n_cached for running in self._running.values()}
        return self._lanes.grow(cached)

    def _say_how(self) -> None:
        """Tell what was found, once."""
        together = self._together
        found = (
            (OTHERWISE, not together.is_exact),
            (ALL_ALONE, together.all_alone),
            (LONG_ALONE, together.long_alone and not together.all_alone),
        )
        for line, applies in found:
            if applies and line not in self._told and self._lanes.size.n_lanes > 1:
                self._told.add(line)
                self._tell(line)
