"""What the KV cache keeps when the middle of a prompt is gone, and that it is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal import llama
from fwlocal.kv_cache import LEAST_MOVED, MOST_SHORT, KVCache, behind_gap, first_n_ctx
from tests import tiny_llama, tiny_mamba

FIRST, GONE, LAST = [1, *range(10, 40)], list(range(40, 140)), list(range(140, 240))
NEW = [77, 78, 79]
WHOLE, WITHOUT = FIRST + GONE + LAST, FIRST + LAST + NEW
CLOSE = 0.1  # the rounding of keys to 16 bits shows, their places show more


class Machine:
    """A cache on a model of one layer, where keys and values depend on nothing but their own token
    and its place: there a cache that was shifted is that of a prompt without the gap."""

    def __init__(
        self, folder: Path, *, head: int = 64, kv_type: str = "f16", path: Path | None = None
    ) -> None:
        shape = tiny_llama.Shape(hidden_size=4 * head, num_hidden_layers=1)
        self.is_stopped = False
        self.model = llama.Model(
            path or tiny_llama.write_gguf(folder / "one.gguf", shape), llama.LoadOptions()
        )
        options = llama.ContextOptions(n_ctx=256, n_threads=1, kv_type=kv_type)
        self.cache = KVCache(self.model, options, lambda: self.is_stopped)
        self.cache.limit = 512

    def evaluate(self, prompt: list[int], *, may_shift: bool = False) -> int:
        """How many tokens were kept."""
        self.cache.make_room(len(prompt), 0)
        kept = self.cache.keep_common(prompt, may_shift=may_shift)
        self.cache.evaluate(prompt[kept:])
        return kept

    def logits(self) -> Any:
        return self.cache.context.logits()

    def close(self) -> None:
        self.cache.close()
        self.model.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def expected(machine: Machine, prompt: list[int]) -> Any:
    machine.cache.clear()
    assert machine.evaluate(prompt) == 0
    return machine.logits()


def distance(left: Any, right: Any) -> float:
    """Of logits, as a part of how much they vary."""
    return float(np.abs(left - right).max() / np.std(right))


def test_what_stands_behind_a_gap_is_moved_and_not_evaluated_again(machine: Machine) -> None:
    machine.evaluate(WHOLE)

    kept = machine.evaluate(WITHOUT, may_shift=True)

    assert kept == len(FIRST) + len(LAST)
    assert machine.cache.tokens == WITHOUT
    assert machine.cache.context.cached() == len(WITHOUT)
    shifted = machine.logits()
    assert distance(shifted, expected(machine, WITHOUT)) < CLOSE
    elsewhere = expected(machine, [*FIRST, *GONE[:1], *LAST, *NEW])
    assert distance(shifted, elsewhere) > 3 * CLOSE  # one place further on shows


@pytest.mark.parametrize("head", [64, 128])
def test_quantized_keys_are_moved(tmp_path: Path, head: int) -> None:
    machine = Machine(tmp_path, head=head, kv_type="q8_0")
    machine.evaluate(WHOLE)

    assert machine.evaluate(WITHOUT, may_shift=True) == len(FIRST) + len(LAST)

    shifted = machine.logits()
    assert distance(shifted, expected(machine, WITHOUT)) < CLOSE
    machine.close()


def test_quantized_keys_that_llama_cpp_cannot_move_are_evaluated_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, head=32, kv_type="q8_0")  # it would end the process
    machine.evaluate(WHOLE)

    assert machine.evaluate(WITHOUT, may_shift=True) == len(FIRST)

    assert distance(machine.logits(), expected(machine, WITHOUT)) == 0
    machine.close()


def test_a_state_forgets_nothing_and_is_evaluated_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, path=tiny_mamba.write_gguf(tmp_path / "mamba.gguf"))
    machine.evaluate(WHOLE)

    assert machine.evaluate(WITHOUT, may_shift=True) == 0

    assert machine.cache.tokens == WITHOUT
    assert distance(machine.logits(), expected(machine, WITHOUT)) == 0
    machine.close()


def test_it_is_not_moved_unless_that_is_allowed(machine: Machine) -> None:
    machine.evaluate(WHOLE)

    assert machine.evaluate(WITHOUT) == len(FIRST)


def test_a_few_tokens_are_not_worth_it(machine: Machine) -> None:
    few = LAST[: LEAST_MOVED - 1]
    machine.evaluate(FIRST + GONE + few)

    assert machine.evaluate(FIRST + few + NEW, may_shift=True) == len(FIRST)


def test_what_stands_behind_the_part_that_is_kept_is_dropped(machine: Machine) -> None:
    machine.evaluate(WHOLE)
    shorter = FIRST + LAST[:50] + NEW

    assert machine.evaluate(shorter, may_shift=True) == len(FIRST) + 50

    shifted = machine.logits()
    assert distance(shifted, expected(machine, shorter)) < CLOSE


def test_the_last_token_is_evaluated_in_any_case(machine: Machine) -> None:
    machine.evaluate(WHOLE)

    assert machine.evaluate(FIRST + LAST, may_shift=True) == len(FIRST) + len(LAST) - 1


def test_gap_after_gap(machine: Machine) -> None:
    machine.evaluate(WHOLE)
    machine.evaluate(WITHOUT, may_shift=True)
    again = FIRST[:5] + WITHOUT[60:] + [80, 81]

    assert machine.evaluate(again, may_shift=True) == len(again) - 2

    shifted = machine.logits()
    assert distance(shifted, expected(machine, again)) < CLOSE


def test_it_knows_whether_its_tokens_lie_where_they_stand(machine: Machine) -> None:
    """Behind a gap they lie further on, until nothing is kept or all moves elsewhere."""
    machine.evaluate(WHOLE)
    assert machine.cache.is_compact

    machine.evaluate(WITHOUT, may_shift=True)
    assert not machine.cache.is_compact
    machine.evaluate([*WITHOUT, 80])
    assert not machine.cache.is_compact

    machine.cache.make_room(300, 0)
    assert machine.cache.is_compact
    machine.evaluate(FIRST + LAST)
    machine.evaluate(LAST)
    assert machine.cache.is_compact


def test_a_shifted_cache_grows(machine: Machine) -> None:
    machine.evaluate(WHOLE)
    machine.evaluate(WITHOUT, may_shift=True)
    longer = WITHOUT + [90 + i % 50 for i in range(200)]

    assert machine.evaluate(longer) == len(WITHOUT)

    assert machine.cache.n_ctx == 512
    grown = machine.logits()
    assert distance(grown, expected(machine, longer)) < CLOSE


def test_it_grows_rightly_when_it_was_stopped_before_the_keys_had_moved(machine: Machine) -> None:
    machine.evaluate(WHOLE)
    machine.is_stopped = True
    machine.evaluate(WITHOUT, may_shift=True)
    assert machine.cache.tokens == FIRST + LAST
    machine.is_stopped = False
    longer = WITHOUT + [90 + i % 50 for i in range(200)]

    machine.evaluate(longer)

    grown = machine.logits()
    assert distance(grown, expected(machine, longer)) < CLOSE


def test_keys_are_not_left_half_moved_by_a_stop(machine: Machine) -> None:
    machine.evaluate(WHOLE)
    machine.cache.keep_common(WITHOUT, may_shift=True)
    machine.is_stopped = True
    machine.cache.context.decode(NEW)
    machine.is_stopped = False

    machine.cache.context.truncate(len(FIRST) + len(LAST))
    machine.cache.context.decode(NEW)

    stopped = machine.logits()
    assert distance(stopped, expected(machine, WITHOUT)) < CLOSE


tokens = st.lists(st.integers(0, 2), max_size=60)


@given(tokens, tokens)
def test_the_longest_stretch_is_found(cached: list[int], prompt: list[int]) -> None:
    cached, prompt = cached * 2, prompt * 2
    pairs = enumerate(zip(cached, prompt, strict=False))
    shortest = min(len(cached), len(prompt))
    shared = next((index for index, (left, right) in pairs if left != right), shortest)

    start, length = behind_gap(cached, prompt, shared)

    def common(begin: int) -> int:
        pairs = zip(cached[begin:], prompt[shared:], strict=False)
        unlike = (index for index, (left, right) in enumerate(pairs) if left != right)
        return next(unlike, min(len(cached) - begin, len(prompt) - shared))

    longest = max(map(common, range(shared + 1, len(cached))), default=0)
    assert length == (longest if longest >= LEAST_MOVED else 0)
    assert not length or common(start) == length


@pytest.mark.parametrize(
    ("n_prompt", "n_answer", "n_ctx"),
    [
        (40, 16, 512),  # a batch at least
        (512, 1, 768),
        (500, 524, 1024),
        (40, 1024, 4096),  # nobody knows how long the answer will be
        (513, 16, 4096),  # the disk may have a long state for it
        (5000, 16, 5120),
    ],
)
def test_a_short_question_gets_a_small_context(n_prompt: int, n_answer: int, n_ctx: int) -> None:
    assert first_n_ctx(8192, n_prompt, n_answer, n_batch=512) == n_ctx


@given(
    st.integers(0, 20_000),
    st.integers(1, 20_000),
    st.integers(0, 5000),
    st.sampled_from([32, 512, 2048]),
)
def test_the_first_context_holds_the_prompt_and_its_batches(
    trained: int, n_prompt: int, n_answer: int, n_batch: int
) -> None:
    n_ctx = first_n_ctx(trained, n_prompt, n_answer, n_batch=n_batch)

    assert n_ctx >= min(n_prompt + n_answer, trained or n_ctx)
    assert n_ctx >= min(n_batch, trained or n_batch)
    assert n_ctx <= (trained or n_ctx)


def test_a_small_context_grows_to_the_default_and_evaluates_nothing_again(tmp_path: Path) -> None:
    shape = tiny_llama.Shape(max_position_embeddings=8192)
    path = tiny_llama.write_gguf(tmp_path / "long.gguf", shape)
    model = llama.Model(path, llama.LoadOptions())
    cache = KVCache(model, llama.ContextOptions(n_ctx=0, n_threads=1), lambda: False)
    prompt, sizes = [3 + i % 200 for i in range(800)], []
    for n_prompt in (40, 800):
        cache.make_room(n_prompt, MOST_SHORT // 2)
        kept = cache.keep_common(prompt[:n_prompt])
        sizes.append((cache.n_ctx, kept))
        cache.evaluate(prompt[kept:n_prompt])
    cache.close()
    model.close()

    assert sizes == [(768, 0), (4096, 40)]
