"""Drafts from a smaller model with the same vocabulary: the likeliest tokens, while it is sure.

It has a KV cache of its own, which follows the answer: what it drafted wrongly is cut from it. It
knows nothing of the larger model but its tokens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from fwlocal.draft.drafter import Kind
from fwlocal.errors import FwlocalError, UsageError
from fwlocal.kv_cache import KVCache

log = logging.getLogger(__name__)

# The draft ends at a token that it gives less than this. What it is unsure of is wrong more often
# than right, and each token costs it a pass over its weights; llama.cpp's p_min is much the same.
LEAST_PROBABILITY = 0.5
_ROOM = 64  # tokens beyond the prompt that a cache is made for at first


def _nothing() -> None:
    pass


class DraftModel:
    """A Drafter; it lives as long as its ``cache``, which it fills and closes, and goes from answer
    to answer. ``n_vocab`` are the first tokens, which both models have; what follows them is one's
    padding. Raises UsageError for a model that cannot take tokens back."""

    is_free = False

    def __init__(
        self,
        cache: KVCache,
        n_vocab: int,
        *,
        least_probability: float = LEAST_PROBABILITY,
        clock: Callable[[], float] = time.perf_counter,
        on_close: Callable[[], None] = _nothing,
    ) -> None:
        self.kind = Kind("model", 0.7)
        self._cache, self._n_vocab = cache, n_vocab
        self._least = least_probability
        self._clock, self._on_close = clock, on_close
        self._n_same = 0  # tokens of the cache that are known to be those of the answer
        self._is_off = False
        cache.open()
        if not cache.context.can_truncate:
            raise UsageError(
                "the draft keeps a state, which cannot take tokens back; name another draft, or "
                "--draft off"
            )

    def close(self) -> None:
        """Free its cache, and then what ``on_close`` does."""
        self._cache.close()
        self._on_close()

    def prepare(self, tokens: Sequence[int]) -> float:
        """Evaluate a prompt, as far as it is not known; the seconds of its last token."""
        self._n_same = 0
        self._is_off = len(tokens) + _ROOM > self._cache.limit
        if self._is_off or not self._catches_up(tokens[:-1]):
            return 0.0
        if tokens[1:]:  # the first time takes longer, as numpy's import does
            likeliest(self._cache.context.logits())
        started = self._clock()
        if not self._catches_up(tokens):
            return 0.0
        likeliest(self._cache.context.logits())
        return self._clock() - started

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        """Its own continuation, shorter where it becomes unsure."""
        n_max = min(n_max, self._cache.limit - len(tokens))
        if self._is_off or n_max < 1 or not self._catches_up(tokens):
            return ()
        drafted: list[int] = []
        while True:
            token, probability = likeliest(self._cache.context.logits())
            if probability < self._least or token >= self._n_vocab:
                break
            drafted.append(token)
            if len(drafted) >= n_max or not self._adds(token):
                break
        return drafted

    def _catches_up(self, tokens: Sequence[int]) -> bool:
        """Have the cache hold ``tokens``, and the logits of the last; False where it cannot."""
        if not tokens or max(tokens[self._n_same :], default=0) >= self._n_vocab:
            return False  # a token of padding
        try:
            return self._follow(tokens)
        except FwlocalError as error:
            self._end(error)
            return False

    def _follow(self, tokens: Sequence[int]) -> bool:
        cache = self._cache
        cache.make_room(len(tokens), _ROOM)
        kept = self._n_same
        while kept < min(len(cache.tokens), len(tokens) - 1) and cache.tokens[kept] == tokens[kept]:
            kept += 1
        if len(cache.tokens) > kept and not cache.context.truncate(kept):
            kept = 0  # of a sliding window that has moved on
        del cache.tokens[kept:]
        done = cache.evaluate(tokens[kept:])
        cache.context.synchronize()
        self._n_same = len(cache.tokens)
        return done

    def _adds(self, token: int) -> bool:
        try:
            self._cache.evaluate_one(token)
        except FwlocalError as error:
            self._end(error)
        return not self._is_off

    def _end(self, error: FwlocalError) -> None:
        """It may cost time, but never the answer."""
        self._is_off = True
        log.debug("nothing more is drafted: %s", error)


def likeliest(logits: Any) -> tuple[int, float]:
    """The token that greedy decoding takes, and its probability."""
    import numpy as np

    token = int(np.argmax(logits))
    return token, float(1 / np.exp(logits - logits[token]).sum())
