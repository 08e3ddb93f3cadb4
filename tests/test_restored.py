"""An engine tells what of a prompt came from the disk."""

from __future__ import annotations

from collections.abc import Sequence

from fwlocal.engine import Engine
from fwlocal.kv_cache import KVCache


class Remembering:
    """Has the first eight tokens of any prompt, once."""

    def __init__(self) -> None:
        self.n_left = 1

    def restore(self, cache: KVCache, prompt: Sequence[int], n_reused: int) -> int:
        if not self.n_left:
            return n_reused
        self.n_left = 0
        cache.evaluate(prompt[n_reused:8])
        return 8

    def keep(self, cache: KVCache, n_evaluated: int, seconds: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing is open."""


def test_what_came_from_the_disk_is_told_apart(tiny_engine: Engine) -> None:
    tiny_engine._prefixes = Remembering()
    prompt = tiny_engine.text_tokens("the whale sings and the sea is deep")

    first = tiny_engine.generate(prompt, max_tokens=2)
    list(first)
    second = tiny_engine.generate(prompt, max_tokens=2)
    list(second)

    assert (first.result.reused_tokens, first.result.n_restored) == (8, 8)
    assert (second.result.reused_tokens, second.result.n_restored) == (len(prompt) - 1, 0)
