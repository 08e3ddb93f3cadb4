"""The quality part of a run: the reference reads a block of chunks, then every level the same.

What the reference finds is held in memory, compressed, for as many chunks as the block has room
for. So each level is loaded once for a block, and the reference is evaluated once for all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from fwlocal.bench import quality
from fwlocal.bench.kept import Kept
from fwlocal.bench.measured import ChunkScores
from fwlocal.bench.opening import open_level
from fwlocal.bench.order import Keys, Order
from fwlocal.bench.progress import View
from fwlocal.bench.rounds import LOADING
from fwlocal.bench.state import Level, State
from fwlocal.bench.statistics import se_reached
from fwlocal.bench.text import Text
from fwlocal.errors import FwlocalError, Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.llama import Evaluation

BLOCK_BYTES = 256 << 20  # of the reference's distributions, in memory
FIRST_CHUNKS = 8  # with --until: so many first, then as many again as there are


class Reading:
    """Every level beside the ``reference``, over ``chunks``, until each has enough of them.
    ``finished`` is told of each level that has more."""

    def __init__(
        self,
        order: Order,
        state: State,
        reference: Level,
        text: Text,
        chunks: Sequence[tuple[int, ...]],
        keys: Keys,
        kept: Kept,
        view: View,
        interrupt: Interrupt,
        finished: Callable[[Level], None],
    ) -> None:
        self._order, self._state, self._reference, self._chunks = order, state, reference, chunks
        self._view, self._interrupt, self._finished = view, interrupt, finished
        self._until = order.settings.until
        self._kept, self._key = kept, partial(keys.scores, reference=reference, text=text)

    def recall(self) -> None:
        """Take over the scores that were found before."""
        for level in self._state.sound:
            if self._order.fresh:
                self._kept.forget(self._key(level))
            level.scores = self._kept.scores(self._key(level))[: len(self._chunks)]

    def work(self) -> float:
        """How much is to be done, in tokens prefilled, about."""
        n_left = [len(self._chunks) - len(level.scores) for level in self._unfinished()]
        n_chunks = sum(n_left) + (max(n_left, default=0) if n_left else 0)
        return n_chunks * self._order.settings.n_ctx + LOADING * (len(n_left) + bool(n_left))

    def run(self) -> bool:
        """False where the reference failed. Raises Interrupted; a level that fails, the reference
        too, has a problem from then on."""
        while unfinished := self._unfinished():
            start = min(len(level.scores) for level in (self._reference, *unfinished))
            self._read_block(unfinished, start)
            if self._reference.problem:
                return False
        return True

    def _unfinished(self) -> list[Level]:
        return [level for level in self._state.sound if not self._is_enough(level)]

    def _is_enough(self, level: Level) -> bool:
        if len(level.scores) >= len(self._chunks):
            return True
        return self._until is not None and se_reached(level.scores, self._until)

    def _read_block(self, levels: Sequence[Level], start: int) -> None:
        """From the chunk ``start`` on, as far as the block has room or --until wants to know."""
        end = len(self._chunks)
        if self._until is not None:
            end = min(end, start + max(FIRST_CHUNKS, start))
        try:
            block = self._reference_block(start, end)
        except Interrupted:
            raise
        except (FwlocalError, MemoryError) as error:
            self._reference.problem = _said(error)
            return
        for level in levels:
            if level is not self._reference and len(level.scores) < block.end:
                self._score(level, block)
                self._finished(level)

    def _reference_block(self, start: int, end: int) -> quality.Block:
        reference, n_ctx = self._reference, self._order.settings.n_ctx
        reference.check_file()
        doing = f"{reference.label}, the reference"
        self._view.step(f"{doing}: loading", LOADING)

        def on_chunk(n: int) -> None:
            self._view.step(f"{doing}: chunk {n} of {end}", n_ctx)

        with self._evaluation(reference) as evaluation:
            block = quality.reference_block(
                evaluation, self._chunks[:end], start, BLOCK_BYTES, on_chunk, self._interrupt
            )
        self._take(reference, block.own_scores[len(reference.scores) - start :])
        self._finished(reference)
        if self._interrupt.is_set():
            raise Interrupted(exit_code=self._interrupt.exit_code)
        return block

    def _score(self, level: Level, block: quality.Block) -> None:
        n_ctx = self._order.settings.n_ctx
        self._view.step(f"{level.label}: loading", LOADING)
        try:
            level.check_file()
            with self._evaluation(level) as evaluation:
                start = len(level.scores)
                for one in quality.score(evaluation, block, start, self._interrupt):
                    self._take(level, [one])
                    doing = f"{level.label}: chunk {len(level.scores)} of {block.end}"
                    self._view.step(doing, n_ctx)
        except Interrupted:
            raise
        except (FwlocalError, MemoryError) as error:
            level.problem = _said(error)

    @contextlib.contextmanager
    def _evaluation(self, level: Level) -> Iterator[Evaluation]:
        """The level, loaded for one chunk at a time."""
        n_ctx, options = self._order.settings.n_ctx, self._order.options
        note, interrupt = self._view.note, self._interrupt
        with (
            open_level(level.entrant, options, n_ctx, notify=note, interrupt=interrupt) as opened,
            opened.evaluation(n_ctx) as evaluation,
        ):
            yield evaluation

    def _take(self, level: Level, scores: Sequence[ChunkScores]) -> None:
        level.check_file()
        level.scores += scores
        self._kept.add_scores(self._key(level), scores, len(level.scores) - len(scores))


def _said(error: Exception) -> str:
    """numpy's is of no use to people."""
    if isinstance(error, MemoryError):
        return "not enough memory to score it; take a smaller --n-ctx, or close what else runs"
    return str(error)
