"""The logits of all positions, against the same model in numpy and against itself in pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal import llama
from fwlocal.errors import DoesNotFit
from fwlocal.llama.evaluation import batch_bounds
from fwlocal.llama.native_context import _failed
from tests import tiny_llama

Floats = npt.NDArray[np.float32]

TOKENS = [tiny_llama.BOS, *(3 + (7 * n) % 250 for n in range(99))]
ROUNDING = 0.05  # of logits up to 10: the KV cache is in float16, summed up in other orders


@pytest.fixture(scope="module")
def model(tiny_gguf: Path) -> Iterator[llama.Model]:
    with contextlib.closing(llama.Model(tiny_gguf, llama.LoadOptions())) as model:
        yield model


def evaluation(model: llama.Model, *, n_batch: int = 512, most_rows: int = 512) -> llama.Evaluation:
    options = llama.ContextOptions(n_ctx=256, n_threads=1, n_batch=n_batch)
    room = most_rows * 4 * model.n_vocab
    return llama.Evaluation(model, options, lambda: False, most_logits_bytes=room)


def logits(reading: llama.Evaluation, tokens: list[int], first: int) -> Floats:
    """Of all positions from ``first`` on, in memory of their own."""
    return np.concatenate([rows.copy() for rows in reading.batches(tokens, first)])


def test_every_position_has_the_logits_that_numpy_reckons(model: llama.Model) -> None:
    shape = tiny_llama.Shape()
    tensors = tiny_llama.checkpoint(shape)
    with contextlib.closing(evaluation(model)) as reading:
        found = logits(reading, TOKENS, 50)
        assert found.shape == (50, shape.vocab_size)
        for position in (50, 73, 99):
            expected = tiny_llama.forward(tensors, shape, TOKENS[: position + 1])
            np.testing.assert_allclose(found[position - 50], expected, atol=ROUNDING)


def test_batches_shorter_than_the_text_give_the_same(model: llama.Model) -> None:
    with contextlib.closing(evaluation(model)) as whole:
        expected = logits(whole, TOKENS, 50)
    with contextlib.closing(evaluation(model, n_batch=32)) as pieces:
        assert [len(rows) for rows in pieces.batches(TOKENS, 50)] == [14, 32, 4]
        found = logits(pieces, TOKENS, 50)
        np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_a_large_vocabulary_comes_in_more_batches(model: llama.Model) -> None:
    with contextlib.closing(evaluation(model)) as reading:
        expected = [rows.copy() for rows in reading.batches(TOKENS, 50)]
    with contextlib.closing(evaluation(model, most_rows=20)) as reading:
        found = [rows.copy() for rows in reading.batches(TOKENS, 50)]
    assert [len(rows) for rows in expected] == [50]
    assert [len(rows) for rows in found] == [20, 20, 10]
    np.testing.assert_allclose(np.concatenate(found), expected[0], atol=ROUNDING)


def test_each_text_begins_with_an_empty_cache(model: llama.Model) -> None:
    with contextlib.closing(evaluation(model)) as reading:
        first = logits(reading, TOKENS, 50)
        logits(reading, TOKENS[::-1], 20)
        np.testing.assert_array_equal(logits(reading, TOKENS, 50), first)


def test_one_that_is_stopped_gives_nothing_and_reads_on_later(model: llama.Model) -> None:
    stop = True
    options = llama.ContextOptions(n_ctx=256, n_threads=1)
    with contextlib.closing(llama.Evaluation(model, options, lambda: stop)) as reading:
        assert list(reading.batches(TOKENS, 50)) == []
        stop = False
        assert len(logits(reading, TOKENS, 50)) == 50


def test_no_memory_while_evaluating_is_what_does_not_fit() -> None:
    error = _failed(-2)
    assert isinstance(error, DoesNotFit)
    assert str(error).startswith("no memory was left to evaluate with (")
    assert str(_failed(-3)).startswith("llama.cpp could not evaluate (-3): ")


@given(st.integers(2, 2000), st.floats(0, 1), st.integers(1, 700), st.integers(1, 700))
def test_bounds_follow_each_other_and_keep_both_limits(
    n_tokens: int, share: float, n_batch: int, most_rows: int
) -> None:
    first = int(share * (n_tokens - 1))
    bounds = list(batch_bounds(n_tokens, first, n_batch, most_rows))
    assert [start for start, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
    assert bounds[-1][1] == n_tokens
    for start, end in bounds:
        assert 0 < end - start <= n_batch
        assert end - max(start, first) <= most_rows
