"""Answers of llama.cpp with drafts and without are the same tokens, however they are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fwlocal import llama
from fwlocal.draft import (
    Controller,
    Drafter,
    Figures,
    Kind,
    PromptLookup,
    Speculation,
    Steering,
    Widths,
)
from fwlocal.sampling import SamplingParams
from tests.draft.forced import Forced
from tests.draft.machine import EXACT, GREEDY, PairAtWork, Said
from tests.paired_llama import N_SPECIAL

# Of the pair's tokens, those of bytes: three letters and a digit, again and again.
GRAMMAR = 'root ::= ([a-z] [a-z] [a-z] [0-9])+ "."'
SETTINGS = {
    "greedy": GREEDY,
    "sampled": SamplingParams(temperature=0.8, seed=7),
    "hot": SamplingParams(temperature=3.0, top_k=0, top_p=1, min_p=0, seed=8),
    "penalty": replace(GREEDY, repeat_penalty=1.3),
    "grammar": replace(GREEDY, grammar=GRAMMAR),
    "sampled grammar": SamplingParams(temperature=1.5, seed=9, grammar=GRAMMAR),
}
PROMPT = (50, 51, 52)


def answer(
    at_work: PairAtWork,
    drafters: Sequence[Drafter],
    params: SamplingParams = GREEDY,
    n_tokens: int = 100,
    prompt: Sequence[int] = PROMPT,
    controller: Controller | None = None,
    *,
    keeps_logits: bool = False,
) -> Said:
    """An answer that is drafted as far as may be; the cache is what the answer says."""
    machine = at_work.machine
    steering = Steering(controller or Forced(), Widths(lossless=True, known=EXACT))
    said = machine.answer(prompt, n_tokens, drafters, steering, params, keeps_logits=keeps_logits)
    assert machine.cache.tokens == [*prompt, *said.tokens[:-1]]
    assert machine.cache.context.cached() == len(machine.cache.tokens)
    return said


def test_the_pair_says_what_its_tables_say(at_work: PairAtWork) -> None:
    said = answer(at_work, [], n_tokens=300).tokens

    table, other = at_work.pair.target_table, at_work.pair.draft_table
    assert list(said) == [table[token] for token in [PROMPT[-1], *said[:-1]]]
    assert min(said) >= N_SPECIAL
    assert len(set(said)) == len(table) - N_SPECIAL
    agree = [a == b for a, b in zip(table[N_SPECIAL:], other[N_SPECIAL:], strict=True)]
    assert abs(sum(agree) / len(agree) - 0.6) < 0.01


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("by", ["model", "lookup", "both"])
def test_the_tokens_are_those_without(at_work: PairAtWork, name: str, by: str) -> None:
    params = SETTINGS[name]
    drafters: dict[str, list[Drafter]] = {
        "model": [at_work.drafter],
        "lookup": [PromptLookup()],
        "both": [PromptLookup(), at_work.drafter],
    }
    prompt = (60, 61, 62, 63, 64, 70, 60, 61, 62, *b"abc1abc1abc1")

    plain = answer(at_work, [], params, prompt=prompt)
    said = answer(at_work, drafters[by], params, prompt=prompt)

    assert said.tokens == plain.tokens
    assert plain.figures == Figures()
    if by == "model":
        assert said.figures.n_drafted > 0


def test_draws_are_by_chance_where_they_should_be(at_work: PairAtWork) -> None:
    """Or else the test before this one would show little."""
    answers = {
        answer(at_work, [at_work.drafter], replace(SETTINGS["sampled"], seed=seed), 30).tokens
        for seed in range(5)
    }

    assert len(answers) == 5


def test_as_many_are_accepted_as_the_pair_agrees(at_work: PairAtWork) -> None:
    said = answer(at_work, [], n_tokens=400).tokens
    pair = at_work.pair
    share = sum(pair.target_table[t] == pair.draft_table[t] for t in said) / len(said)

    figures = answer(at_work, [at_work.drafter], n_tokens=400, controller=Forced(2)).figures

    assert 0.5 < share < 0.7
    assert abs(figures.n_accepted / figures.n_drafted - share) < 0.1


class OneGuess:
    """Drafts always the same token."""

    is_free = True
    kind = Kind("guess", 0.5)

    def __init__(self, token: int) -> None:
        self._token = token

    def prepare(self, tokens: Sequence[int]) -> float:
        return 0.0

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        return [self._token]


START, TEMPERATURE = (50, 55, 60), 2.0
N_DRAWS, N_COMMON = 1500, 8
EXCEEDED_ONCE_IN_1000 = 26.1  # chi-square with as many degrees of freedom
Pick = Callable[[llama.Sampler, Any, int, int], int]  # of a sampler, a context, a row and a draft


def as_sampled(sampler: llama.Sampler, context: Any, row: int, drafted: int) -> int:
    """What a draft is held against: it says nothing in it."""
    return sampler.sample(context, row)


def where_it_is_likely(sampler: llama.Sampler, context: Any, row: int, drafted: int) -> int:
    """A wrong rule: a drafted token is taken wherever it is likely."""
    logits = context.logits(row)
    return drafted if logits[drafted] > logits.max() - 2 else sampler.sample(context, row)


def where_it_is_drawn_in_two(sampler: llama.Sampler, context: Any, row: int, drafted: int) -> int:
    """Another wrong one: a draft that was not drawn gets a second chance."""
    token = sampler.sample(context, row)
    return token if token == drafted else sampler.sample(context, row)


class Second:
    """A sampler that says a given token first, and draws the second one by a rule."""

    def __init__(self, sampler: llama.Sampler, first: int, pick: Pick, drafted: int) -> None:
        self._sampler, self._first, self._pick = sampler, first, pick
        self._drafted, self._n_said = drafted, 0

    def sample(self, computed: Any, row: int = -1) -> int:
        self._n_said += 1
        if self._n_said == 1:
            return self._first
        return self._pick(self._sampler, computed, row, self._drafted)


def chances_behind(at_work: PairAtWork, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """Of each token, by the logits of these alone."""
    cache = at_work.machine.cache
    cache.clear()
    cache.make_room(len(tokens), 8)
    cache.evaluate(tokens)
    logits = cache.context.logits().astype(float) / TEMPERATURE
    chances = np.exp(logits - logits.max())
    return np.asarray(chances / chances.sum())


def drawn_behind(at_work: PairAtWork, drafted: int, pick: Pick, seed: int) -> int:
    """The token that follows START, drawn from the first row of a batch with ``drafted``."""
    machine, (*prompt, first) = at_work.machine, START
    machine.cache.keep_common([*prompt, 0])
    params = SamplingParams(temperature=TEMPERATURE, top_k=0, top_p=1, min_p=0, seed=seed)
    stages = [(stage.name, stage.arguments) for stage in params.stages]
    speculation = Speculation(
        machine.cache,
        Second(llama.Sampler(machine.model, stages, None), first, pick, drafted),
        prompt,
        [OneGuess(drafted)],
        Steering(Forced(2), Widths(lossless=True, known=EXACT)),
        limit=8,
        is_eog=machine.model.is_eog,
    )
    with closing(speculation.tokens()) as steps:
        _, second = next(steps), next(steps)
    assert speculation.figures.n_drafted == 1
    return second


def chi_square(at_work: PairAtWork, nth: int, pick: Pick) -> float:
    """How far the draws are from their chances, where the nth likeliest token is drafted."""
    chances = chances_behind(at_work, START)
    common = [int(token) for token in np.argsort(-chances)[:N_COMMON]]
    drawn = Counter(drawn_behind(at_work, common[nth], pick, seed) for seed in range(N_DRAWS))
    observed = [drawn[token] for token in common]
    expected = [N_DRAWS * float(chances[token]) for token in common]
    observed.append(N_DRAWS - sum(observed))
    expected.append(N_DRAWS - sum(expected))
    return sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))


@pytest.mark.parametrize("nth", [0, 1, 5])
def test_a_draft_does_not_change_the_chances_of_what_is_drawn(
    at_work: PairAtWork, nth: int
) -> None:
    assert chi_square(at_work, nth, as_sampled) < EXCEEDED_ONCE_IN_1000


@pytest.mark.parametrize("wrong", [where_it_is_likely, where_it_is_drawn_in_two])
def test_a_wrong_rule_would_be_seen(at_work: PairAtWork, wrong: Pick) -> None:
    assert chi_square(at_work, 0, wrong) > 2 * EXCEEDED_ONCE_IN_1000


def test_logits_are_those_that_the_token_was_drawn_from(at_work: PairAtWork) -> None:
    plain = answer(at_work, [], n_tokens=40, keeps_logits=True)
    said = answer(at_work, [at_work.drafter], n_tokens=40, keeps_logits=True)

    assert said.logits == plain.logits
    assert said.figures.n_accepted > 0


class RightGuess:
    """Drafts what a table says."""

    is_free = True
    kind = Kind("table", 0.9)

    def __init__(self, table: Sequence[int]) -> None:
        self._table = table

    def prepare(self, tokens: Sequence[int]) -> float:
        return 0.0

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        drafted = [self._table[tokens[-1]]]
        while len(drafted) < n_max:
            drafted.append(self._table[drafted[-1]])
        return drafted


class Ticking:
    """A clock by which everything takes a second."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 1.0
        return self._now


def test_it_finds_by_itself_that_these_weights_are_exact(at_work: PairAtWork) -> None:
    widths, machine = Widths(lossless=True), at_work.machine
    steering = Steering(Controller(0.01), widths)
    drafter = RightGuess(at_work.pair.target_table)

    for _ in range(6):
        said = machine.answer(PROMPT, 250, [drafter], steering, clock=Ticking())

    assert widths.known.short_sure
    assert said.figures.n_accepted > 50
