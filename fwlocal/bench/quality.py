"""Reading a text twice: by the reference, whose distributions are kept compressed, and by a level,
which is scored against them.

Of chunks only a block is held, as many as have room, and in memory alone. Which models these are,
how often they take turns, and what the scores mean is others'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from fwlocal.bench import distributions, divergence
from fwlocal.bench.distributions import Distributions, Ints
from fwlocal.bench.measured import ChunkScores
from fwlocal.bench.text import first_scored
from fwlocal.errors import Interrupted
from fwlocal.interrupts import Interrupt

if TYPE_CHECKING:
    from fwlocal.bench.measured import Floats

# Of one thread's logits at a time: what is computed of them then stays in the processor's cache.
ROWS_BYTES = 2 << 20
MOST_WORKERS = 8  # each takes a few times that; by then memory is what holds them up

T = TypeVar("T")


class Evaluates(Protocol):
    """What of ``fwlocal.llama.Evaluation`` is needed here."""

    n_threads: int

    def batches(self, tokens: Sequence[int], first: int) -> Iterator[Floats]: ...


@dataclass(frozen=True)
class Block:
    """What the reference says of the chunks from number ``start`` on: their tokens, its
    distributions, and its own scores, an entry for each."""

    start: int
    chunks: tuple[tuple[int, ...], ...]
    distributions: tuple[Distributions, ...]
    own_scores: tuple[ChunkScores, ...]

    @property
    def end(self) -> int:
        """The number of the first chunk behind it."""
        return self.start + len(self.chunks)

    @property
    def n_bytes(self) -> int:
        """What the distributions take in memory."""
        return sum(one.n_bytes for one in self.distributions)


def reference_block(
    evaluation: Evaluates,
    chunks: Sequence[tuple[int, ...]],
    start: int,
    budget_bytes: int,
    on_chunk: Callable[[int], None],
    interrupt: Interrupt,
) -> Block:
    """Evaluate ``chunks`` from number ``start`` to the last, or until another one might not find
    room in ``budget_bytes``; one is always read. ``on_chunk`` gets how many there are so far, with
    those before ``start``.

    When it is stopped the block ends at the last whole chunk. Raises Interrupted if there is none.
    """
    found: list[tuple[Distributions, ChunkScores]] = []
    sizes: list[int] = []
    with _workers(evaluation.n_threads) as workers:
        for chunk in chunks[start:]:
            if found and sum(sizes) + max(sizes) > budget_bytes:
                break
            try:
                found.append(_reference_chunk(evaluation, chunk, workers, interrupt))
            except Interrupted:
                if not found:
                    raise
                break
            sizes.append(found[-1][0].n_bytes)
            on_chunk(start + len(found))
    read = tuple(chunks[start : start + len(found)])
    return Block(start, read, tuple(one for one, _ in found), tuple(own for _, own in found))


def score(
    evaluation: Evaluates, block: Block, start: int, interrupt: Interrupt
) -> Iterator[ChunkScores]:
    """How a level reads the chunks of ``block`` from number ``start`` on, as each is done. Raises
    Interrupted when it is stopped."""
    with _workers(evaluation.n_threads) as workers:
        for index in range(start - block.start, len(block.chunks)):
            yield _scored_chunk(evaluation, block, index, workers, interrupt)


class _Workers:
    """Threads that share the rows of a matrix; numpy leaves them to each other."""

    def __init__(self, n_workers: int, pool: ThreadPoolExecutor | None) -> None:
        self._n_workers, self._pool = n_workers, pool

    def map(self, function: Callable[[int, int], T], n_rows: int, row_bytes: int) -> list[T]:
        """What ``function`` makes of the rows from its first argument to its second, in order."""
        step = max(1, min(ROWS_BYTES // row_bytes, -(-n_rows // self._n_workers)))
        starts = range(0, n_rows, step)
        ends = [min(start + step, n_rows) for start in starts]
        return list((self._pool.map if self._pool else map)(function, starts, ends))


@contextlib.contextmanager
def _workers(n_threads: int) -> Iterator[_Workers]:
    n_workers = min(n_threads, MOST_WORKERS)
    if n_workers == 1:
        yield _Workers(1, None)
        return
    with ThreadPoolExecutor(n_workers) as pool:
        yield _Workers(n_workers, pool)


def _read(
    evaluation: Evaluates, chunk: Sequence[int], interrupt: Interrupt
) -> Iterator[tuple[int, Floats, Ints]]:
    """The logits at a chunk's scored positions, a batch at a time: the number of the first one's
    row, the logits, and the tokens behind them. Raises Interrupted when it was stopped."""
    first = first_scored(len(chunk))
    targets = np.array(chunk[first + 1 :], np.int64)
    n_done = 0
    for logits in evaluation.batches(chunk, first):
        if interrupt.is_set():
            break
        behind = targets[n_done : n_done + len(logits)]
        if len(behind):  # nothing follows the last position
            yield n_done, logits[: len(behind)], behind
        n_done += len(behind)
    if n_done < len(targets):
        raise Interrupted(exit_code=interrupt.exit_code)


def _reference_chunk(
    evaluation: Evaluates, chunk: Sequence[int], workers: _Workers, interrupt: Interrupt
) -> tuple[Distributions, ChunkScores]:
    parts: list[tuple[Distributions, ChunkScores]] = []
    for _, logits, targets in _read(evaluation, chunk, interrupt):

        def work(
            start: int, end: int, logits: Floats = logits, targets: Ints = targets
        ) -> tuple[Distributions, ChunkScores]:
            rows = logits[start:end]
            found = distributions.compressed(rows)
            return found, divergence.own_scores(found, rows, targets[start:end])

        parts += workers.map(work, len(logits), logits[0].nbytes)
    found = distributions.joined([one for one, _ in parts])
    return found, divergence.joined_scores([own for _, own in parts])


def _scored_chunk(
    evaluation: Evaluates, block: Block, index: int, workers: _Workers, interrupt: Interrupt
) -> ChunkScores:
    reference, own = block.distributions[index], block.own_scores[index]
    parts: list[ChunkScores] = []
    for n_before, logits, targets in _read(evaluation, block.chunks[index], interrupt):

        def work(
            start: int,
            end: int,
            n: int = n_before,
            logits: Floats = logits,
            targets: Ints = targets,
        ) -> ChunkScores:
            beside = reference.rows(n + start, n + end)
            nll = own.nll[n + start : n + end]
            return divergence.scores(beside, nll, logits[start:end], targets[start:end])

        parts += workers.map(work, len(logits), logits[0].nbytes)
    return divergence.joined_scores(parts)
