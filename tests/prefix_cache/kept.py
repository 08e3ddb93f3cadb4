"""States that tell which tokens and which setting they are of, so that a wrong one is noticed."""

from __future__ import annotations

import hashlib
from ctypes import c_uint8
from dataclasses import replace
from pathlib import Path
from typing import Any

from fwlocal.prefix_cache import Hit, Outcome, PrefixCache, Setting
from fwlocal.prefix_cache.form import packed_tokens

SETTING = Setting(
    model="whale:Q8_0",
    fingerprint="ab" * 32,
    build="llama.cpp 1: CPU : AVX2 = 1",
    kv_type="f16",
    flash_attn="auto",
    n_batch=512,
    n_ubatch=512,
    n_threads=2,
    n_threads_batch=2,
)
UNCUTTABLE = replace(SETTING, can_cut=False)
BOUND = 1 << 20


def state_of(tokens: list[int], setting: Setting = SETTING, size_bytes: int = 5000) -> Any:
    """The bytes of a state as ``llama.Context.state`` gives them."""
    seed = setting.key + packed_tokens(tokens)
    return (c_uint8 * size_bytes)(*hashlib.shake_128(seed).digest(size_bytes))


def roomy(folder: Path) -> int:
    """A disk that is large enough."""
    return 1 << 40


class Machine:
    """A cache on a machine whose clock and disk are as a test wants them."""

    def __init__(self, root: Path, bound_bytes: int = BOUND) -> None:
        self.now_s = 1_000_000.0
        self.disk_bytes = 1 << 40
        self.cache = PrefixCache(
            root,
            bound_bytes,
            now_ns=lambda: int(self.now_s * 1e9),
            free_bytes=lambda folder: self.disk_bytes,
        )

    def put(self, tokens: list[int], setting: Setting = SETTING, size_bytes: int = 5000) -> Outcome:
        """Keep a state that took ten seconds, a second later than the last one."""
        self.now_s += 1
        state = state_of(tokens, setting, size_bytes)
        return self.cache.put(setting, tokens, state, prefill_s=10.0)

    def find(self, prompt: list[int], setting: Setting = SETTING, **options: Any) -> Hit | None:
        self.now_s += 1
        return self.cache.find(setting, prompt, **options)

    def common(self, prompt: list[int], setting: Setting = SETTING, **options: Any) -> int:
        """How many tokens of a prompt need no evaluation, by what can really be loaded; that it is
        the right state, is checked."""
        hit = self.find(prompt, setting, **options)
        if hit is None:
            return 0
        state = self.cache.load(hit)
        if state is None:
            return 0
        tokens = [*memoryview(hit.header.tokens).cast("i")]
        assert bytes(state) == bytes(state_of(tokens, setting, len(state)))
        assert tokens[: hit.n_common] == prompt[: hit.n_common]
        return hit.n_common

    @property
    def entries(self) -> list[Path]:
        """The files of entries."""
        return sorted(self.cache.root.glob("*.kv"))
