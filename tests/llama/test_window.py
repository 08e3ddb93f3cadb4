"""A model whose layers look through a window: what is not there any more is evaluated again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fwlocal import llama
from fwlocal.kv_cache import KVCache
from tests.llama import tiny_window
from tests.llama.tiny_window import WINDOW

N_BATCH = 64
PROMPT = [1, *(3 + (7 * i * i + i) % 250 for i in range(249))]
NEW = list(range(100, 120))
CLOSE = 0.05  # the rounding of keys to 16 bits shows, a key that is missing shows more


class Machine:
    """A cache of 256 tokens that may grow."""

    def __init__(self, path: Path) -> None:
        self.model = llama.Model(path, llama.LoadOptions())
        self._caches: list[KVCache] = []

    def cache(self, n_ctx: int = 256) -> KVCache:
        options = llama.ContextOptions(n_ctx=n_ctx, n_threads=1, n_batch=N_BATCH, n_ubatch=N_BATCH)
        cache = KVCache(self.model, options, lambda: False)
        cache.limit = 1024
        self._caches.append(cache)
        return cache

    def grown(self) -> KVCache:
        """A cache that held the prompt when it outgrew its context."""
        cache = self.cache()
        evaluate(cache, PROMPT)
        cache.make_room(300, 0)
        assert cache.n_ctx > 256
        assert cache.tokens == PROMPT
        return cache

    def expected(self, prompt: list[int]) -> Any:
        """The logits after a prompt that nothing is known of."""
        cache = self.cache(n_ctx=1024)
        assert evaluate(cache, prompt) == 0
        return cache.context.logits()

    def close(self) -> None:
        for cache in self._caches:
            cache.close()
        self.model.close()


def evaluate(cache: KVCache, prompt: list[int]) -> int:
    """How many tokens were kept."""
    cache.make_room(len(prompt), 0)
    kept = cache.keep_common(prompt)
    assert cache.evaluate(prompt[kept:])
    return kept


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model."""
    return tiny_window.write_gguf(tmp_path_factory.mktemp("window") / "window.gguf")


@pytest.fixture
def machine(path: Path) -> Iterator[Machine]:
    machine = Machine(path)
    assert machine.model.n_swa == WINDOW
    yield machine
    machine.close()


def distance(left: Any, right: Any) -> float:
    """Of logits, as a part of how much they vary."""
    return float(np.abs(left - right).max() / np.std(right))


@pytest.mark.parametrize("n_kept", [240, 202, 192, 100, 1])
def test_behind_a_cut_that_the_window_reaches_across(machine: Machine, n_kept: int) -> None:
    cache, prompt = machine.grown(), PROMPT[:n_kept] + NEW

    assert evaluate(cache, prompt) == 0, "what the window would show is gone"

    assert cache.tokens == prompt
    assert np.array_equal(cache.context.logits(), machine.expected(prompt))


def test_what_goes_on_from_the_end_is_kept(machine: Machine) -> None:
    for prompt in (PROMPT, PROMPT + NEW):
        cache = machine.grown()

        assert evaluate(cache, prompt) == min(len(PROMPT), len(prompt) - 1)

        assert distance(cache.context.logits(), machine.expected(prompt)) < CLOSE


def test_a_cache_that_has_not_grown_can_be_cut(machine: Machine) -> None:
    cache, prompt = machine.cache(), PROMPT[:192] + NEW
    evaluate(cache, PROMPT)

    assert evaluate(cache, prompt) == 192

    assert np.array_equal(cache.context.logits(), machine.expected(prompt))


def test_after_enough_new_tokens_a_grown_one_can_be_cut_again(machine: Machine) -> None:
    cache, long = machine.grown(), PROMPT + [5 + n % 200 for n in range(3 * WINDOW)]
    evaluate(cache, long)

    prompt = long[: len(PROMPT) + 2 * WINDOW] + NEW
    assert evaluate(cache, prompt) == len(PROMPT) + 2 * WINDOW

    assert distance(cache.context.logits(), machine.expected(prompt)) < CLOSE
