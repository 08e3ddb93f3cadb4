"""A prompt's beginning from the disk: only where the answer is the same, to the bit, without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from fwlocal import llama
from fwlocal.gguf import read_header
from fwlocal.kv_cache import KVCache
from fwlocal.loader.ahead import prefixes_for
from fwlocal.loader.options import EngineOptions, request_of
from fwlocal.loader.planning import look_around, settle
from fwlocal.prefix_cache import KeptPrefixes, NoPrefixes, PrefixCache, Prefixes, Setting
from fwlocal.prefix_cache.contents import described
from fwlocal.store import ModelFile
from tests import tiny_mamba
from tests.llama import tiny_window
from tests.prefix_cache.kept import SETTING, roomy, state_of

N_BATCH = 64
TEXT = [1, *(3 + (7 * i * i + i) % 250 for i in range(379))]
QUESTION, OTHER = [*range(100, 140)], [*range(40, 90)]


class Process:
    """A model with a KV cache, as a process has it; the disk outlives it."""

    def __init__(self, path: Path, disk: PrefixCache, setting: Setting | None) -> None:
        self.model = llama.Model(path, llama.LoadOptions())
        options = llama.ContextOptions(n_ctx=512, n_threads=1, n_batch=N_BATCH, n_ubatch=N_BATCH)
        self.cache = KVCache(self.model, options, lambda: False)
        self.prefixes = KeptPrefixes(disk, lambda n_ctx: setting)

    def ask(self, prompt: list[int]) -> tuple[int, Any]:
        """How many tokens were not evaluated, and the logits."""
        self.cache.make_room(len(prompt), 10)
        reused = self.prefixes.restore(self.cache, prompt, self.cache.keep_common(prompt))
        assert self.cache.evaluate(prompt[reused:])
        assert self.cache.tokens == prompt
        self.prefixes.keep(self.cache, len(prompt) - reused, 10.0)
        return reused, self.cache.context.logits()

    def close(self) -> None:
        self.prefixes.close()
        self.cache.close()
        self.model.close()


class Machine:
    """Where processes come and go."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "prefixes"
        self._running: list[Process] = []

    def process(self, path: Path, setting: Setting | None = SETTING) -> Process:
        self.end()
        disk = PrefixCache(self.root, 1 << 30, free_bytes=roomy)
        self._running.append(Process(path, disk, setting))
        return self._running[-1]

    def end(self) -> None:
        for process in self._running:
            process.close()
        self._running.clear()

    @property
    def kept(self) -> list[int]:
        """How many tokens each entry has."""
        self.end()
        return [entry.n_tokens for entry in described(self.root)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.end()


def test_another_process_does_not_read_the_text_again(machine: Machine, tiny_gguf: Path) -> None:
    assert machine.process(tiny_gguf).ask(TEXT)[0] == 0
    _, expected = machine.process(tiny_gguf, None).ask(TEXT + QUESTION)

    reused, logits = machine.process(tiny_gguf).ask(TEXT + QUESTION)

    assert reused == len(TEXT) // N_BATCH * N_BATCH
    assert np.array_equal(logits, expected)


@pytest.mark.parametrize("first", [[*TEXT[:30], *OTHER], [*TEXT[:70], *OTHER], TEXT[:64], [1, 2]])
def test_it_is_the_same_as_without_a_disk_after_whatever_was_asked_before(
    machine: Machine, tiny_gguf: Path, first: list[int]
) -> None:
    machine.process(tiny_gguf).ask(TEXT)
    without = machine.process(tiny_gguf, None)
    without.ask(first)
    _, expected = without.ask(TEXT + QUESTION)

    process = machine.process(tiny_gguf)
    process.ask(first)
    _, logits = process.ask(TEXT + QUESTION)

    assert np.array_equal(logits, expected)


def test_whole_batches_in_memory_give_way_to_more_from_the_disk(
    machine: Machine, tiny_gguf: Path
) -> None:
    machine.process(tiny_gguf).ask(TEXT)
    process = machine.process(tiny_gguf)
    process.ask(TEXT[:N_BATCH])
    process.cache.tokens.append(5)  # an answer of one token
    process.cache.context.decode_one(5)

    assert process.ask(TEXT + QUESTION)[0] == len(TEXT) // N_BATCH * N_BATCH


def test_where_nothing_is_known_of_the_model_nothing_is_kept(
    machine: Machine, tiny_gguf: Path
) -> None:
    machine.process(tiny_gguf, None).ask(TEXT)

    assert machine.kept == []


def test_a_state_that_cannot_be_cut_is_kept_where_it_can_be_of_use(
    machine: Machine, tmp_path: Path
) -> None:
    path = tiny_mamba.write_gguf(tmp_path / "mamba.gguf")
    setting, whole = dataclasses.replace(SETTING, can_cut=False), TEXT[: 5 * N_BATCH]
    machine.process(path, setting).ask(TEXT)
    assert machine.kept == []

    machine.process(path, setting).ask(whole)
    assert machine.kept == [len(whole)]
    _, expected = machine.process(path, None).ask(TEXT)
    reused, logits = machine.process(path, setting).ask(TEXT)

    assert reused == len(whole)
    assert np.array_equal(logits, expected)


class Copying:
    """A KV cache, and its context, whose state is copied at some price."""

    def __init__(self, state_bytes: int = 5000, error: type[BaseException] | None = None) -> None:
        self.tokens, self.n_whole, self.n_ctx, self.n_batch = TEXT, len(TEXT), 512, N_BATCH
        self.context, self.n_copies = self, 0
        self._state_bytes, self._error = state_bytes, error

    def state_bytes(self) -> int:
        return self._state_bytes

    def state(self) -> Any:
        self.n_copies += 1
        if self._error is not None:
            raise self._error
        return state_of(TEXT, size_bytes=self._state_bytes)


def keep(prefixes: KeptPrefixes, cache: Copying) -> int:
    """Have what it holds kept; how often it was copied."""
    prefixes.keep(cast(KVCache, cache), len(TEXT), 10.0)
    return cache.n_copies


def test_no_memory_for_a_copy_ends_no_answer(tmp_path: Path) -> None:
    disk = PrefixCache(tmp_path / "prefixes", 1 << 20, free_bytes=roomy)
    prefixes = KeptPrefixes(disk, lambda n_ctx: SETTING)

    assert keep(prefixes, Copying(error=MemoryError)) == 1
    prefixes.close()

    assert described(disk.root) == []


def test_nothing_is_copied_that_is_too_large(tmp_path: Path) -> None:
    disk = PrefixCache(tmp_path / "prefixes", 1 << 20, free_bytes=roomy)
    prefixes = KeptPrefixes(disk, lambda n_ctx: SETTING, available_bytes=lambda: 20_000)

    assert keep(prefixes, Copying(state_bytes=10_001)) == 0, "of the RAM that is available"
    assert keep(prefixes, Copying(state_bytes=2 << 20)) == 0, "of the disk"
    assert keep(prefixes, Copying(state_bytes=10_000)) == 1
    prefixes.close()

    assert len(described(disk.root)) == 1


def test_nothing_is_copied_for_a_disk_that_took_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    disk = PrefixCache(tmp_path / "file" / "prefixes", 1 << 20, free_bytes=roomy)
    prefixes = KeptPrefixes(disk, lambda n_ctx: SETTING)

    assert keep(prefixes, Copying()) == 1
    prefixes.close()  # once it was written, or not

    assert keep(prefixes, Copying()) == 0


def prefixes_of(path: Path, bound_bytes: int = 1 << 20, workers: tuple[str, ...] = ()) -> Prefixes:
    """Those that a load of the file gives its engine."""
    header = read_header(path)
    request = request_of(EngineOptions(n_threads=1), header)
    settled = settle(path, header, look_around((), 1), request)
    settled = dataclasses.replace(settled, site=dataclasses.replace(settled.site, workers=workers))
    model = llama.Model(path, llama.LoadOptions())
    try:
        return prefixes_for(model, ModelFile("m", path), header, settled, bound_bytes)
    finally:
        model.close()


def test_which_loads_have_a_disk(tiny_gguf: Path, tmp_path: Path) -> None:
    window = tiny_window.write_gguf(tmp_path / "window.gguf")

    assert isinstance(prefixes_of(tiny_gguf), KeptPrefixes)
    assert isinstance(prefixes_of(tiny_gguf, bound_bytes=0), NoPrefixes)
    assert isinstance(prefixes_of(tiny_gguf, workers=("10.0.0.2:50052",)), NoPrefixes)
    assert isinstance(prefixes_of(window), NoPrefixes), "its state is not all of it"
