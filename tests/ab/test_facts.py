"""The lines under an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fwlocal.ab.facts import Spoken, agreement, facts
from fwlocal.answer import Result, Timings

RESULT = Result("the sea", (5, 6), "stop", 812, 3, 0, 1, Timings(9, 0.21, 0.2, 0.04, 60, 45.26))


def test_size_and_speed() -> None:
    assert facts("Q8_0", 145_000_000, RESULT) == [
        "Q8_0, 145 MB",
        "3 tokens, 45.3 tok/s",
        "first token after 0.21 s, for a prompt of 812 tokens",
    ]


@pytest.mark.parametrize(
    ("reason", "line"),
    [("length", "3 tokens, 45.3 tok/s, cut"), ("interrupt", "3 tokens, 45.3 tok/s, interrupted")],
)
def test_how_it_ended(reason: str, line: str) -> None:
    assert facts("Q8_0", 1, replace(RESULT, finish_reason=reason))[1] == line  # type: ignore[arg-type]


def test_of_no_token_there_is_no_speed() -> None:
    timings = Timings(0, 0, 0, 0, 0, 0)
    nothing = replace(RESULT, completion_tokens=0, finish_reason="interrupt", timings=timings)

    assert facts("Q8_0", 1, nothing) == ["Q8_0, 1 B", "0 tokens, interrupted"]


SEA, SUN = Spoken("the sea is", (1, 2, 3), 4), Spoken("the sun", (1, 5), 3)


@pytest.mark.parametrize(
    ("own", "other", "difference", "said"),
    [
        (SEA, SUN, 5, "the same up to token 1 of 4"),
        (SUN, SEA, 5, "the same up to token 1 of 3"),
        (SEA, SEA, None, "equal"),
        (Spoken("", (), 0), Spoken("", (), 0), None, "nothing was said"),
        (Spoken("the", (1,), 2), SEA, 3, "the same up to its end, token 1"),
        (SEA, Spoken("the", (1,), 2), 3, "the same up to token 1 of 4"),
        (SEA, Spoken("a", (9,), 2), 0, "different from the first token on"),
        (SEA, Spoken("the", (1,), 1), None, "the same as far as both go"),
    ],
)
def test_how_far_both_are_the_same(
    own: Spoken, other: Spoken, difference: int | None, said: str
) -> None:
    assert agreement(own, other, difference, same_tokens=True) == said


def test_other_vocabularies_are_compared_by_characters() -> None:
    assert agreement(SEA, SUN, 5, same_tokens=False) == "the same up to character 5 of 10"
