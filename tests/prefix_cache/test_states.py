"""A state from the disk is the one that was evaluated: the logits after it are the same bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fwlocal import llama
from fwlocal.gguf import read_header
from fwlocal.prefix_cache import PrefixCache, Setting, fingerprint
from fwlocal.store import ModelFile
from tests import tiny_llama, tiny_mamba
from tests.prefix_cache.kept import SETTING, roomy

N_UBATCH = 64
PROMPT = [1, *(3 + (7 * i * i + i) % 250 for i in range(299))]
OTHER = [*PROMPT[:200], *range(100, 150)]


class Model:
    """A tiny model, and contexts of it that evaluate in small batches."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.model = llama.Model(path, llama.LoadOptions())
        self._contexts: list[llama.Context] = []
        self._options = llama.ContextOptions(
            n_ctx=512, n_threads=1, n_batch=N_UBATCH, n_ubatch=N_UBATCH, **options
        )
        self.setting = dataclasses.replace(
            SETTING,
            fingerprint=fingerprint(ModelFile("m", path), read_header(path)) or "",
            build=llama.build_info(),
            **options,
        )

    def context(self, n_ctx: int = 512) -> llama.Context:
        options = dataclasses.replace(self._options, n_ctx=n_ctx)
        self._contexts.append(llama.Context(self.model, options, lambda: False))
        return self._contexts[-1]

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self.model.close()


@pytest.fixture
def tiny(tiny_gguf: Path) -> Iterator[Model]:
    """A random Llama."""
    model = Model(tiny_gguf)
    yield model
    model.close()


@pytest.fixture
def wide_gguf(tmp_path: Path) -> Path:
    """A random Llama whose keys can be quantized."""
    return tiny_llama.write_gguf(tmp_path / "wide.gguf", tiny_llama.Shape(hidden_size=128))


@pytest.fixture
def cache(tmp_path: Path) -> PrefixCache:
    """An empty cache."""
    return PrefixCache(tmp_path / "prefixes", 1 << 30, free_bytes=roomy)


def evaluate(context: llama.Context, tokens: list[int]) -> Any:
    """The logits after ``tokens``."""
    for start in range(0, len(tokens), context.n_batch):
        assert context.decode(tokens[start : start + context.n_batch])
    return context.logits()


def keep(cache: PrefixCache, setting: Setting, context: llama.Context, tokens: list[int]) -> None:
    assert context.cached() == len(tokens)
    assert cache.put(setting, tokens, context.state(), prefill_s=10.0) == "written"


def restored(cache: PrefixCache, model: Model, prompt: list[int], **options: Any) -> Any:
    """The logits after ``prompt``, evaluated by a new context with what is kept of it."""
    hit = cache.find(model.setting, prompt, at_least=32, align=N_UBATCH, **options)
    assert hit is not None
    state = cache.load(hit)
    context = model.context(n_ctx=1024)
    assert context.restore(state)
    assert context.cached() == hit.n_tokens
    if hit.n_common < hit.n_tokens:
        assert context.truncate(hit.n_common)
    return evaluate(context, prompt[hit.n_common :])


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:280], PROMPT + [5] * 70, OTHER])
def test_the_logits_are_those_of_the_whole_prompt(
    tiny: Model, cache: PrefixCache, prompt: list[int]
) -> None:
    context = tiny.context()
    evaluate(context, PROMPT)
    keep(cache, tiny.setting, context, PROMPT)

    assert np.array_equal(restored(cache, tiny, prompt), evaluate(tiny.context(), prompt))


@pytest.mark.parametrize(
    "options", [{"kv_type": "q8_0"}, {"flash_attn": "off"}, {"flash_attn": "on"}], ids=str
)
def test_in_every_kind_of_cache(
    wide_gguf: Path, cache: PrefixCache, options: dict[str, str]
) -> None:
    model = Model(wide_gguf, **options)
    context = model.context()
    evaluate(context, PROMPT)
    keep(cache, model.setting, context, PROMPT)

    assert np.array_equal(restored(cache, model, OTHER), evaluate(model.context(), OTHER))
    model.close()


def test_a_state_that_cannot_be_cut_goes_on_as_a_whole(tmp_path: Path, cache: PrefixCache) -> None:
    model = Model(tiny_mamba.write_gguf(tmp_path / "mamba.gguf"))
    model.setting = dataclasses.replace(model.setting, can_cut=False)
    context, whole = model.context(), PROMPT[: 4 * N_UBATCH]
    evaluate(context, whole)
    keep(cache, model.setting, context, whole)

    assert np.array_equal(restored(cache, model, PROMPT), evaluate(model.context(), PROMPT))
    assert cache.find(model.setting, whole[:-1], at_least=32) is None
    model.close()


def test_another_model_of_the_same_shape_finds_nothing(
    tiny: Model, cache: PrefixCache, tmp_path: Path
) -> None:
    """llama.cpp would take its state over."""
    other = Model(tiny_llama.write_gguf(tmp_path / "other.gguf", seed=1))
    context = tiny.context()
    evaluate(context, PROMPT)
    keep(cache, tiny.setting, context, PROMPT)
    assert other.context().restore(context.state())

    assert cache.find(other.setting, PROMPT) is None
    other.close()


def test_a_state_of_another_form_is_refused_by_llama_cpp_and_dropped(
    tmp_path: Path, wide_gguf: Path, cache: PrefixCache
) -> None:
    """Should a setting ever not tell two forms apart, nothing is lost."""
    plain, quantized = Model(wide_gguf), Model(wide_gguf, kv_type="q8_0")
    context = quantized.context()
    evaluate(context, PROMPT)
    keep(cache, plain.setting, context, PROMPT)
    hit = cache.find(plain.setting, PROMPT)
    assert hit is not None

    context = plain.context()
    assert not context.restore(cache.load(hit))
    cache.drop(hit)

    assert cache.find(plain.setting, PROMPT) is None
    assert np.array_equal(evaluate(context, PROMPT), evaluate(plain.context(), PROMPT))
    quantized.close()
    plain.close()
