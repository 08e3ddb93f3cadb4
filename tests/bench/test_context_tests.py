"""The tests on one context: what is evaluated in them, how deep and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fwlocal import llama
from fwlocal.bench.context_tests import ContextTests
from fwlocal.bench.result import SpeedTest
from fwlocal.bench.speed import series
from fwlocal.errors import Interrupted
from fwlocal.hardware.energy import Counter, Meter
from fwlocal.interrupts import Interrupt
from tests import tiny_llama, tiny_mamba

PP, TG = SpeedTest(40, 0), SpeedTest(0, 5)
TESTS = series(40, 5, (0, 100, 300))
N_CTX, N_BATCH = 512, 64


class Recorder(llama.Context):
    """A context that knows which tokens it holds, and how many it evaluated."""

    def __init__(self, model: llama.Model, interrupt: Interrupt) -> None:
        options = llama.ContextOptions(N_CTX, n_threads=1, n_batch=N_BATCH)
        super().__init__(model, options, interrupt.is_set)
        self.tokens: list[int] = []
        self.batches: list[int] = []
        self.n_taken = self.n_restored = 0
        self._held_at: list[int] = []

    def decode(self, tokens: Sequence[int]) -> bool:
        self.batches.append(len(tokens))
        self.tokens += tokens
        return super().decode(tokens)

    def decode_one(self, token: int) -> None:
        self.batches.append(1)
        self.tokens.append(token)
        super().decode_one(token)

    def truncate(self, n_tokens: int) -> bool:
        kept = super().truncate(n_tokens)
        del self.tokens[n_tokens if kept else 0 :]
        return kept

    def state(self) -> Any:
        self.n_taken += 1
        self._held_at = [*self.tokens]
        return super().state()

    def restore(self, state: Any) -> bool:
        self.n_restored += 1
        self.tokens = [*self._held_at]
        return super().restore(state)


class Machine:
    """A tiny model, and the tests on a context that tells what it holds."""

    def __init__(self, path: Path, seed: int = 0) -> None:
        self.interrupt = Interrupt()
        self.model = llama.Model(path, llama.LoadOptions())
        self.context = Recorder(self.model, self.interrupt)
        self.tests = ContextTests(self.model, self.context, seed, self.interrupt)

    def next_logits(self) -> Any:
        self.context.decode([77])
        return self.context.logits()

    def fresh_logits(self, tokens: Sequence[int]) -> Any:
        """What a context that is new would say behind ``tokens``."""
        context = Recorder(self.model, self.interrupt)
        for start in range(0, len(tokens), N_BATCH):
            context.decode(tokens[start : start + N_BATCH])
        context.decode([77])
        logits = context.logits()
        context.close()
        return logits

    def close(self) -> None:
        self.context.close()
        self.model.close()


@pytest.fixture(params=["llama", "mamba"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    """A model that can be cut back, and one that cannot."""
    write = {"llama": tiny_llama.write_gguf, "mamba": tiny_mamba.write_gguf}[request.param]
    machine = Machine(write(tmp_path / "tiny.gguf"))
    yield machine
    machine.close()


@pytest.fixture
def llama_machine(tiny_gguf: Path) -> Iterator[Machine]:
    machine = Machine(tiny_gguf)
    yield machine
    machine.close()


def test_prefill_is_in_batches_and_decoding_token_by_token(llama_machine: Machine) -> None:
    context, tests = llama_machine.context, llama_machine.tests

    assert tests.run(SpeedTest(150, 0)).seconds > 0
    assert context.batches == [64, 64, 22]
    assert tests.run(SpeedTest(0, 3, 150)).seconds > 0
    assert context.batches[3:] == [1, 1, 1]
    assert context.cached() == 153
    assert context.tokens[0] == context.tokens[150] == llama_machine.model.bos
    assert len(set(context.tokens)) > 50


def test_the_tokens_are_the_seeds(tiny_gguf: Path) -> None:
    def tokens(seed: int) -> list[int]:
        machine = Machine(tiny_gguf, seed)
        machine.tests.run(PP)
        machine.close()
        return machine.context.tokens

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_warming_up_leaves_nothing_behind(machine: Machine) -> None:
    machine.tests.warm_up(TESTS)

    assert machine.context.batches == [40, 1]
    assert machine.context.cached() == 0


def test_a_prompt_may_fill_the_whole_context(machine: Machine) -> None:
    tests = series(N_CTX, 5, (0,))
    machine.tests.warm_up(tests)
    assert all(machine.tests.run(test).seconds > 0 for test in tests)


def test_warming_up_for_one_kind_of_test(llama_machine: Machine) -> None:
    llama_machine.tests.warm_up([TG])
    llama_machine.tests.warm_up([PP])

    assert llama_machine.context.batches == [1, 40]


def test_a_deeper_test_finds_the_cache_filled(machine: Machine) -> None:
    tests, context = machine.tests, machine.context
    tests.warm_up(TESTS)
    for test in TESTS:
        tests.run(test)
        assert context.cached() == len(context.tokens)
        assert context.cached() == test.n_depth + test.n_prompt + test.n_gen


def test_a_depth_is_evaluated_once(machine: Machine) -> None:
    tests, context = machine.tests, machine.context
    tests.warm_up(TESTS)
    context.batches.clear()
    for test in TESTS:
        tests.run(test)

    in_tests = 3 * (40 + 5)
    assert sum(context.batches) <= in_tests + 300
    # A state is taken only of what cannot be cut back.
    n_states = 0 if context.can_move else 2
    assert (context.n_taken, context.n_restored) == (n_states, n_states)


def test_what_was_cut_back_to_is_as_if_nothing_had_followed(machine: Machine) -> None:
    tests = machine.tests
    tests.warm_up(TESTS)
    tests.fill(100)
    held = [*machine.context.tokens]
    tests.run(SpeedTest(40, 0, 100))
    tests.fill(100)

    assert machine.context.tokens == held
    np.testing.assert_allclose(machine.next_logits(), machine.fresh_logits(held), atol=1e-2)


def test_a_deeper_cache_goes_on_from_a_shallower_one(machine: Machine) -> None:
    tests = machine.tests
    tests.warm_up(TESTS)
    tests.fill(100)
    tests.run(SpeedTest(0, 5, 100))
    tests.fill(300)
    held = [*machine.context.tokens]

    assert len(held) == 300
    np.testing.assert_allclose(machine.next_logits(), machine.fresh_logits(held), atol=1e-2)


def test_prefill_can_be_stopped_between_batches(llama_machine: Machine) -> None:
    llama_machine.interrupt.set(15)

    with pytest.raises(Interrupted) as caught:
        llama_machine.tests.fill(300)
    assert caught.value.exit_code == 143
    assert llama_machine.context.batches == []


def test_prefill_can_be_stopped_within_a_batch(tiny_gguf: Path) -> None:
    tiny = Machine(tiny_gguf)

    class Stopping(Recorder):
        def decode(self, tokens: Sequence[int]) -> bool:
            tiny.interrupt.set()
            return super().decode(tokens)

    context = Stopping(tiny.model, tiny.interrupt)
    with pytest.raises(Interrupted):
        ContextTests(tiny.model, context, 0, tiny.interrupt).fill(N_BATCH)
    assert context.batches == [N_BATCH]
    context.close()
    tiny.close()


def test_decoding_can_be_stopped(tiny_gguf: Path) -> None:
    tiny = Machine(tiny_gguf)

    class Stopping(Recorder):
        def decode_one(self, token: int) -> None:
            super().decode_one(token)
            if len(self.batches) == 2:
                tiny.interrupt.set()

    context = Stopping(tiny.model, tiny.interrupt)
    with pytest.raises(Interrupted):
        ContextTests(tiny.model, context, 0, tiny.interrupt).run(SpeedTest(0, 100))
    assert context.cached() == 2
    context.close()
    tiny.close()


def test_the_energy_of_filling_is_not_the_tests(llama_machine: Machine) -> None:
    context = llama_machine.context
    evaluated = Counter("tokens", lambda: float(sum(context.batches)))
    tests = ContextTests(
        llama_machine.model, context, 0, llama_machine.interrupt, Meter([evaluated])
    )

    assert tests.run(SpeedTest(40, 0, 300)).joules == 40
