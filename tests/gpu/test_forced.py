"""What is forced is what is accepted, and all the rest is as in an answer that nothing forces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.draft import Kind
from fwlocal.errors import UsageError
from fwlocal.llama import ContextOptions
from tests import tiny_llama
from tests.gpu.forced import (
    Coin,
    LoadedPair,
    Log,
    Recording,
    RecordingForced,
    opened_pair,
    placed,
    predicted_tps,
    prompt_of,
)
from tests.tiny_llama import Shape

PROMPT = prompt_of(16)
N_TOKENS = 400


class Counting:
    """Drafts 100, 101, ..."""

    is_free = False
    kind = Kind("counting", 0.5)

    def prepare(self, tokens: Sequence[int]) -> float:
        return 1.0

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        return range(100, 100 + n_max)


class Always:
    """Draws the same token, whatever was computed, and counts."""

    def __init__(self, token: int) -> None:
        self.token, self.n_drawn = token, 0

    def sample(self, computed: Any, row: int = -1) -> int:
        self.n_drawn += 1
        return self.token


@given(st.floats(0, 1), st.integers(0, 100), st.integers(100, 110))
def test_a_coin_goes_on_as_drafted_up_to_where_it_does_not(
    acceptance: float, seed: int, own: int
) -> None:
    sampler = Always(own)
    coin = Coin(Counting(), sampler, acceptance, seed, 111)
    drafted = coin.propose([1], 8)
    said = [coin.sample(None) for _ in range(12)]
    n_right = next((n for n, token in enumerate(drafted) if said[n] != token), 8)
    wrong = said[n_right]
    if n_right < 8 and drafted[n_right] == own:
        assert wrong == own + 1
    else:
        assert wrong == own
    assert said[n_right + 1 :] == [own] * (11 - n_right)
    assert sampler.n_drawn == 12
    if acceptance in (0, 1):
        assert n_right == 8 * acceptance


def test_the_last_token_of_a_vocabulary_has_another_too() -> None:
    coin = Coin(Counting(), Always(100), 0.0, 0, 101)
    coin.propose([1], 1)
    assert coin.sample(None) == 99


def within(found: float, expected: float, sigma: float) -> bool:
    return abs(found - expected) <= 4 * sigma


@pytest.mark.parametrize(("acceptance", "n_drafted"), [(0.4, 3), (0.6, 4), (0.8, 7)])
def test_what_is_accepted_is_what_was_forced(
    pair: LoadedPair, acceptance: float, n_drafted: int
) -> None:
    answer = pair.answer(PROMPT, N_TOKENS, RecordingForced(n_drafted + 1), acceptance, seed=3)
    log = answer.log
    assert len(answer.tokens) == N_TOKENS
    assert log.n_decided > 200
    sigma = math.sqrt(acceptance * (1 - acceptance) / log.n_decided)
    assert within(log.n_right / log.n_decided, acceptance, sigma)
    assert {rows for rows, _ in log.batches[:-8]} == {n_drafted + 1}  # at the end fewer
    # Each batch brings one token more than are right; what was said besides was decoded alone.
    assert len(log.singles_s) + len(log.batches) + log.n_right == N_TOKENS


def test_the_draft_really_drafts_and_the_caches_are_really_cut(pair: LoadedPair) -> None:
    answer = pair.answer(PROMPT, 50, RecordingForced(5), 0.6)
    assert pair.cache.tokens[:16] == PROMPT
    assert pair.cache.tokens[17:] == list(answer.tokens[:-1])
    assert pair.cache.context.cached() == len(pair.cache.tokens) == 16 + 50
    assert len(answer.log.drafts_s) >= len(answer.log.batches)
    assert min(answer.log.drafts_s) > 0


def test_without_an_acceptance_it_says_what_the_model_says(pair: LoadedPair) -> None:
    plain = pair.answer(PROMPT, 50, Recording())
    assert plain.log == Log()  # nothing is steered where nothing drafts
    assert len(plain.tokens) == 50
    # Where nothing is accepted, every token is the model's own.
    never = pair.answer(PROMPT, 50, RecordingForced(4), 0.0)
    assert never.tokens == plain.tokens
    assert never.log.n_right == 0
    assert len(never.log.batches) >= 48
    always = pair.answer(PROMPT, 50, RecordingForced(4), 1.0)
    assert always.tokens != plain.tokens
    assert always.log.n_right == always.log.n_decided > 30


def test_the_prediction() -> None:
    log = Log(singles_s=[1.0, 1.0], drafts_s=[0.5, 0.5], batches=[(3, 1.5), (2, 1.0)])
    # 2 alone, 1 + 0.5 + 0.25 and 1 + 0.5 by batches, in 2 + 1 + 2.5 seconds.
    assert predicted_tps(log, 0.5) == pytest.approx(5.25 / 5.5)
    assert predicted_tps(log, 1.0) == pytest.approx(7 / 5.5)


def test_a_draft_of_another_vocabulary_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = files
    shape = Shape(num_hidden_layers=1, vocab_size=len(tiny_llama.vocabulary()) + 200)
    more = tuple((f"w{n}", -60.0, 1) for n in range(200))
    draft = tiny_llama.write_gguf(tmp_path / "other.gguf", shape, extra_tokens=more)
    options = ContextOptions(n_ctx=128, n_threads=1)
    with pytest.raises(UsageError), opened_pair(model, draft, None, options):
        pytest.fail("it was opened")


def test_all_layers_and_the_output_go_to_the_device(files: tuple[Path, Path]) -> None:
    model, draft = files
    assert placed(model, "CUDA0").split == {"CUDA0": 3}
    assert placed(draft, "CUDA0").split == {"CUDA0": 2}
    assert placed(model, None).split == {}
