"""Sampling parameters: their checks, and the chains they mean."""

from __future__ import annotations

import math

import pytest

from fwlocal.errors import UsageError
from fwlocal.sampling import MAX_SEED, SamplingParams


def names(params: SamplingParams) -> list[str]:
    return [stage.name for stage in params.seeded().stages]


def test_the_chain_has_llama_cpps_order() -> None:
    params = SamplingParams(repeat_penalty=1.1)

    assert names(params) == ["penalties", "top_k", "top_p", "min_p", "temp", "dist"]


def test_temperature_zero_is_greedy() -> None:
    assert names(SamplingParams(temperature=0, top_p=0.5)) == ["greedy"]


def test_what_is_off_is_left_out() -> None:
    assert names(SamplingParams(top_k=0, top_p=1, min_p=0)) == ["temp", "dist"]


def test_the_seed_is_kept_or_drawn() -> None:
    assert SamplingParams(seed=7).seeded().stages[-1].arguments == (7,)
    assert SamplingParams().seeded().seed != SamplingParams().seeded().seed


def test_updated_ignores_what_was_not_given() -> None:
    params = SamplingParams().updated({"temperature": 0.1, "top_k": None})

    assert (params.temperature, params.top_k) == (0.1, 40)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"repeat_penalty": 0},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_values_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SamplingParams(**wrong)  # type: ignore[arg-type]


def test_seeds_follow_each_other() -> None:
    seeds = [SamplingParams(seed=MAX_SEED - 1).following(index).seed for index in range(3)]

    assert seeds == [MAX_SEED - 1, MAX_SEED, 0]
    assert SamplingParams().following(3).seed is None
