"""Blocks of chunks read by a reference and by levels: made-up models, and a tiny real one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fwlocal import llama
from fwlocal.bench.distributions import compressed
from fwlocal.bench.measured import ChunkScores
from fwlocal.bench.quality import Block, reference_block, score
from fwlocal.errors import Interrupted
from fwlocal.interrupts import Interrupt
from tests import tiny_llama

N_CTX, N_VOCAB = 16, 64
FIRST, N_SCORED = 8, 7
CHUNKS = [tuple((31 * c + 7 * n) % N_VOCAB for n in range(N_CTX)) for c in range(5)]


class MadeUp:
    """A model whose logits are random, always the same for the same tokens. ``off`` sets it apart
    from others; ``size`` is how many rows it gives at a time; ``on_row`` is told of each."""

    def __init__(
        self,
        off: float = 0,
        *,
        n_threads: int = 1,
        size: int = N_CTX,
        interrupt: Interrupt | None = None,
        stop_after: int = 10**9,
    ) -> None:
        self.n_threads = n_threads
        self.n_batches = 0
        self._off, self._size = off, size
        self._interrupt, self._stop_after = interrupt, stop_after

    def batches(self, tokens: Sequence[int], first: int) -> Iterator[npt.NDArray[np.float32]]:
        rows = self.rows(tokens)[first:]
        for start in range(0, len(rows), self._size):
            if self._interrupt is not None and self.n_batches >= self._stop_after:
                self._interrupt.set()
                return
            self.n_batches += 1
            memory = rows[start : start + self._size].copy()
            yield memory
            memory[:] = np.nan  # as llama.cpp's own memory is no longer the caller's

    def rows(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        random = np.random.default_rng(list(tokens))
        logits = random.normal(0, 3, (len(tokens), N_VOCAB))
        return (logits + self._off * random.normal(0, 1, logits.shape)).astype(np.float32)


def block_of(model: MadeUp, start: int = 0, budget: int = 1 << 30) -> Block:
    return reference_block(model, CHUNKS, start, budget, lambda _: None, Interrupt())


def same(a: ChunkScores, b: ChunkScores) -> None:
    for name, values in vars(a).items():
        np.testing.assert_array_equal(values, getattr(b, name))


def test_the_scored_positions_are_the_second_half_but_the_last() -> None:
    block = block_of(MadeUp())
    rows = MadeUp().rows(CHUNKS[3])[FIRST : N_CTX - 1].astype(np.float64)
    chances = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    right = [chances[n, CHUNKS[3][FIRST + 1 + n]] for n in range(N_SCORED)]
    np.testing.assert_allclose(block.own_scores[3].nll, -np.log(right), rtol=1e-5)


def test_a_reference_against_itself_is_nothing_apart() -> None:
    block = block_of(MadeUp())
    found = list(score(MadeUp(), block, 0, Interrupt()))
    assert len(found) == len(CHUNKS)
    for scores, own in zip(found, block.own_scores, strict=True):
        same(scores, own)
        assert not scores.kld.any()
        assert scores.same_top.all()


@pytest.mark.parametrize(("n_threads", "size"), [(1, 3), (3, N_CTX), (2, 5)])
def test_neither_threads_nor_batches_change_a_score(n_threads: int, size: int) -> None:
    plain, other = block_of(MadeUp()), block_of(MadeUp(n_threads=n_threads, size=size))
    expected = list(score(MadeUp(0.3), plain, 0, Interrupt()))
    found = list(score(MadeUp(0.3, n_threads=n_threads, size=size), other, 0, Interrupt()))
    assert sum(scores.kld.sum() for scores in expected) > 0
    for a, b in zip(found, expected, strict=True):
        same(a, b)


def test_a_block_ends_where_its_memory_does() -> None:
    whole = block_of(MadeUp())
    sizes = [one.n_bytes for one in whole.distributions]
    block = block_of(MadeUp(), budget=sum(sizes[:2]) + max(sizes))
    assert 2 <= len(block.chunks) < len(CHUNKS)
    assert block.n_bytes <= sum(sizes[:2]) + max(sizes)
    assert block_of(MadeUp(), budget=1).end == 1


def test_blocks_follow_each_other_to_the_same_scores() -> None:
    expected = list(score(MadeUp(0.3), block_of(MadeUp()), 0, Interrupt()))
    found: list[ChunkScores] = []
    while len(found) < len(CHUNKS):
        block = block_of(MadeUp(), start=len(found), budget=1)
        found += score(MadeUp(0.3), block, block.start, Interrupt())
    for a, b in zip(found, expected, strict=True):
        same(a, b)


def test_a_level_goes_on_behind_the_chunks_that_it_has() -> None:
    block = block_of(MadeUp(), start=1)
    level = MadeUp(0.3)
    found = list(score(level, block, 3, Interrupt()))
    expected = list(score(MadeUp(0.3), block, 1, Interrupt()))
    assert level.n_batches == len(found) == 2
    for a, b in zip(found, expected[2:], strict=True):
        same(a, b)


def test_the_count_of_chunks_is_told_as_they_come() -> None:
    told: list[int] = []
    reference_block(MadeUp(), CHUNKS, 2, 1 << 30, told.append, Interrupt())
    assert told == [3, 4, 5]


def test_a_level_that_is_stopped_has_given_its_whole_chunks() -> None:
    interrupt, block = Interrupt(), block_of(MadeUp())
    level = MadeUp(0.3, size=4, interrupt=interrupt, stop_after=5)  # in its third chunk
    found: list[ChunkScores] = []
    with pytest.raises(Interrupted):
        found.extend(score(level, block, 0, interrupt))
    assert len(found) == 2


def test_a_reference_that_is_stopped_leaves_a_shorter_block_or_none() -> None:
    for stop_after, n_whole in ((5, 2), (1, 0)):
        interrupt = Interrupt()
        model = MadeUp(size=4, interrupt=interrupt, stop_after=stop_after)
        if n_whole:
            block = reference_block(model, CHUNKS, 0, 1 << 30, lambda _: None, interrupt)
            assert block.end == len(block.distributions) == len(block.own_scores) == n_whole
        else:
            with pytest.raises(Interrupted):
                reference_block(model, CHUNKS, 0, 1 << 30, lambda _: None, interrupt)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_tiny_model_end_to_end(tmp_path: Path, n_threads: int) -> None:
    shape = tiny_llama.Shape()
    chunks = [(tiny_llama.BOS, *(3 + (c + 5 * n) % 250 for n in range(63))) for c in range(3)]
    names = "reference", "copy", "other"
    paths = [
        tiny_llama.write_gguf(tmp_path / f"{name}.gguf", shape, seed=name == "other")
        for name in names
    ]
    options = llama.ContextOptions(n_ctx=64, n_threads=n_threads)
    found: dict[str, list[ChunkScores]] = {}
    block = None
    for name, path in zip(names, paths, strict=True):
        with (
            contextlib.closing(llama.Model(path, llama.LoadOptions())) as model,
            contextlib.closing(llama.Evaluation(model, options, lambda: False)) as evaluation,
        ):
            if block is None:
                block = reference_block(evaluation, chunks, 0, 1 << 30, lambda _: None, Interrupt())
            found[name] = list(score(evaluation, block, 0, Interrupt()))
            (logits,) = evaluation.batches(chunks[0], 32)
            kept = compressed(logits[:-1])
            if name == "reference":
                np.testing.assert_array_equal(kept.log_sum, block.distributions[0].log_sum)
    for scores in found["reference"] + found["copy"]:
        assert not scores.kld.any()
        assert scores.same_top.all()
        np.testing.assert_array_equal(scores.nll, scores.reference_nll)
    assert np.mean([scores.kld.mean() for scores in found["other"]]) > 0.1
    assert not any(scores.is_nan.any() for scores in found["other"])
