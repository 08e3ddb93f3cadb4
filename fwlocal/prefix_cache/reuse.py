"""Between a KV cache and the disk: a prompt's beginning is taken over before it is evaluated, and
what took long to evaluate is kept.

The answer is the same with and without it. Rounding depends on how a prompt is cut into batches, so
only whole batches are taken over, and only prompts evaluated in such batches are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fwlocal.hardware import memory
from fwlocal.kv_cache import KVCache
from fwlocal.prefix_cache.cache import PrefixCache
from fwlocal.prefix_cache.setting import Setting
from fwlocal.prefix_cache.worth import LEAST_TOKENS, worth_keeping
from fwlocal.prefix_cache.writer import Writer

_MOST_OF_RAM = 0.5  # of what is available, that a copy may take


class Prefixes(Protocol):
    """What an engine asks."""

    def restore(self, cache: KVCache, prompt: Sequence[int], n_reused: int) -> int: ...
    def keep(self, cache: KVCache, n_evaluated: int, seconds: float) -> None: ...
    def close(self) -> None: ...


class NoPrefixes:
    """Neither takes nor keeps anything."""

    def restore(self, cache: KVCache, prompt: Sequence[int], n_reused: int) -> int:
        """As before."""
        return n_reused

    def keep(self, cache: KVCache, n_evaluated: int, seconds: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing is open."""


class KeptPrefixes:
    """Those of ``disk``; ``setting_at`` is that of a context of so many tokens, None where nothing
    can be known of the model's file. ``available_bytes`` is the RAM that is free now."""

    def __init__(
        self,
        disk: PrefixCache,
        setting_at: Callable[[int], Setting | None],
        available_bytes: Callable[[], int] = lambda: memory().available_bytes,
    ) -> None:
        self._disk, self._setting_at = disk, setting_at
        self._available_bytes = available_bytes
        self._writer = Writer(disk)

    def restore(self, cache: KVCache, prompt: Sequence[int], n_reused: int) -> int:
        """Put into ``cache`` what the disk has of the beginning of ``prompt``, if that is a good
        deal more than the ``n_reused`` tokens that it holds; how many it holds then. Where those
        are no whole batches, the rest would be evaluated in others than without the disk, so it
        stays as it is."""
        least, n_batch = n_reused + LEAST_TOKENS, cache.context.n_batch
        if len(prompt) <= least or n_reused % n_batch or cache.n_whole < n_reused:
            return n_reused
        setting = self._setting_at(cache.n_ctx)
        if setting is None:
            return n_reused
        hit = self._disk.find(setting, prompt, least, most_tokens=cache.n_ctx, align=n_batch)
        state = self._disk.load(hit) if hit is not None else None
        if hit is None or state is None:
            return n_reused
        if not cache.take(prompt[: hit.n_common], state):
            self._disk.drop(hit)
            return 0
        return hit.n_common

    def keep(self, cache: KVCache, n_evaluated: int, seconds: float) -> None:
        """Have the prompt that ``cache`` holds written beside the answer, if evaluating
        ``n_evaluated`` of its tokens in ``seconds`` was worth it."""
        n_tokens = len(cache.tokens)
        if n_evaluated < LEAST_TOKENS or cache.n_whole < n_tokens:
            return
        all_s, state_bytes = seconds * n_tokens / n_evaluated, cache.context.state_bytes()
        if not worth_keeping(n_tokens, state_bytes, all_s) or not self._may_keep(state_bytes):
            return
        setting = self._setting_at(cache.n_ctx)
        if setting is None or (n_tokens % cache.context.n_batch and not setting.can_cut):
            return  # of no use: it cannot be cut back to whole batches
        try:
            state = cache.context.state()
        except MemoryError:
            return
        if state is not None:
            self._writer.give(setting, cache.tokens, state, all_s)

    def _may_keep(self, state_bytes: int) -> bool:
        """Whether to copy a state at all: nothing is copied that could not be written, and memory
        is left to others."""
        if self._writer.is_hopeless or state_bytes > self._disk.bound_bytes:
            return False
        return state_bytes <= self._available_bytes() * _MOST_OF_RAM

    def close(self) -> None:
        """Wait a moment for what is being written."""
        self._writer.close()
