"""What is exact is found out at once, and is what trials would have found."""

from __future__ import annotations

from pathlib import Path

from fwlocal import llama
from fwlocal.draft.exploring import N_TOKENS, explore
from fwlocal.draft.widths import CPU_WIDTHS, KnownWidths
from fwlocal.kv_cache import KVCache
from tests.draft.machine import PairAtWork

TOKENS = [10 + n * n % 240 for n in range(N_TOKENS)]


def test_weights_of_8_bits_are_exact(at_work: PairAtWork) -> None:
    cache = at_work.machine.cache

    assert explore(cache, TOKENS) == KnownWidths(CPU_WIDTHS, (), CPU_WIDTHS, ())

    assert cache.tokens == []
    assert cache.context.cached() == 0


def test_weights_of_32_bits_are_not(tiny_gguf: Path) -> None:
    model = llama.Model(tiny_gguf, llama.LoadOptions())
    cache = KVCache(model, llama.ContextOptions(n_ctx=512, n_threads=1), lambda: False)

    known = explore(cache, TOKENS)

    assert known == KnownWidths((), (), (), ())
    cache.close()
    model.close()


def test_it_can_be_stopped(at_work: PairAtWork) -> None:
    known = explore(at_work.machine.cache, TOKENS, lambda: True)

    assert known == KnownWidths()
