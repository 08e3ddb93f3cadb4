"""Keys that wait to be moved do not outlive what they were the keys of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal import llama
from tests import tiny_llama

TOKENS = [tiny_llama.BOS, *(3 + (7 * n) % 250 for n in range(99))]
OTHER = [tiny_llama.BOS, *(3 + (11 * n) % 250 for n in range(63))]


@pytest.fixture
def model(tiny_gguf: Path) -> Iterator[llama.Model]:
    with contextlib.closing(llama.Model(tiny_gguf, llama.LoadOptions())) as model:
        yield model


def context_of(model: llama.Model) -> contextlib.closing[llama.Context]:
    options = llama.ContextOptions(n_ctx=256, n_threads=1)
    return contextlib.closing(llama.Context(model, options, lambda: False))


def moved(context: llama.Context) -> None:
    """Hold TOKENS with a gap closed, before anything is evaluated behind it."""
    assert context.decode(TOKENS)
    assert context.can_move
    context.remove(10, 30)
    assert context.state() is None


def test_an_emptied_context_is_as_a_new_one(model: llama.Model) -> None:
    with context_of(model) as fresh, context_of(model) as context:
        moved(context)
        assert context.truncate(0)

        assert fresh.decode(OTHER)
        assert context.decode(OTHER)
        assert context.cached() == len(OTHER)
        assert context.logits_bytes() == fresh.logits_bytes()
        assert context.state() is not None


def test_a_state_that_is_taken_over_is_not_moved(model: llama.Model) -> None:
    with context_of(model) as fresh, context_of(model) as context:
        assert fresh.decode(OTHER)
        state = fresh.state()
        moved(context)

        assert context.restore(state)
        assert bytes(context.state()) == bytes(state)
        fresh.decode_one(5)
        context.decode_one(5)
        assert context.logits_bytes() == fresh.logits_bytes()
