"""llama-bench's tests on one context: random tokens, evaluated in batches or one by one.

The definitions are ``test_prompt``, ``test_gen`` and the loop around them in llama.cpp's
tools/llama-bench/llama-bench.cpp. Its batches are of 2048 tokens, which it computes 512 at a time:
the same as batches of 512. What the KV cache holds at a depth it keeps for the next test; here it
is cut back to, and only the models that forget nothing by halves (recurrent ones) have their state
kept. A context that is larger than a test needs costs no time with flash attention: only what is
filled is read, in steps of 256 (``llama_kv_cache::get_n_kv``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fwlocal import llama
from fwlocal.bench.result import SpeedTest
from fwlocal.errors import Interrupted
from fwlocal.hardware.energy import Meter
from fwlocal.interrupts import Interrupt


@dataclass(frozen=True)
class Spent:
    """What a test took; ``joules`` None where nothing counts them."""

    seconds: float
    joules: float | None


class ContextTests:
    """The tests on an empty ``context`` of ``model``; the tokens are ``seed``'s, the same for every
    model with as many, and ``meter`` counts their energy. Any call raises Interrupted when
    ``interrupt`` is set."""

    def __init__(
        self,
        model: llama.Model,
        context: llama.Context,
        seed: int,
        interrupt: Interrupt,
        meter: Meter | None = None,
    ) -> None:
        self._model, self._context, self._interrupt = model, context, interrupt
        self._meter = meter or Meter(())
        self._random = np.random.default_rng(seed)
        self._can_cut = False
        self._kept: tuple[int, Any] | None = None  # a depth and the state at it

    def warm_up(self, tests: Sequence[SpeedTest]) -> None:
        """As llama-bench: the longest of the prompts and one generated token, and all forgotten."""
        context = self._context
        self._prefill(self._tokens(max((test.n_prompt for test in tests), default=0)))
        if context.cached() > 1:
            self._can_cut = context.truncate(1)
        context.truncate(0)
        if any(test.n_gen for test in tests):
            self._decode(self._tokens(1))
        context.truncate(0)

    def fill(self, n_depth: int) -> None:
        """Have the cache hold ``n_depth`` tokens, with as little work as can be."""
        context = self._context
        if context.cached() > n_depth and not context.truncate(n_depth):
            kept_at, state = self._kept or (0, None)
            if 0 < kept_at <= n_depth:
                context.restore(state)
        n_missing = n_depth - context.cached()
        if n_missing > 0:
            self._prefill(self._tokens(n_missing))
            if not self._can_cut:
                self._kept = n_depth, context.state()

    def run(self, test: SpeedTest) -> Spent:
        """What a test takes; filling the cache to its depth is not counted."""
        self.fill(test.n_depth)
        prompt, answer = self._tokens(test.n_prompt), self._tokens(test.n_gen)
        self._meter.start()
        started = time.perf_counter()
        self._prefill(prompt)
        self._decode(answer)
        return Spent(time.perf_counter() - started, self._meter.used_j())

    def _tokens(self, count: int) -> list[int]:
        """Any of the vocabulary, control tokens too; the first is BOS where the model has it so."""
        tokens: list[int] = self._random.integers(self._model.n_vocab, size=count).tolist()
        if tokens and self._model.adds_bos:
            tokens[0] = self._model.bos
        return tokens

    def _prefill(self, tokens: Sequence[int]) -> None:
        context = self._context
        for start in range(0, len(tokens), context.n_batch):
            self._check()
            if not context.decode(tokens[start : start + context.n_batch]):
                raise Interrupted(exit_code=self._interrupt.exit_code)
        if tokens:
            context.synchronize()

    def _decode(self, tokens: Sequence[int]) -> None:
        context = self._context
        for token in tokens:
            self._check()
            context.decode_one(token)
            context.synchronize()

    def _check(self) -> None:
        if self._interrupt.is_set():
            raise Interrupted(exit_code=self._interrupt.exit_code)
