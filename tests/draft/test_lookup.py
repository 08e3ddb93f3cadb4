"""What followed the last tokens before is what is drafted, in constant time for a token."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from fwlocal.draft import PromptLookup


def drafted(tokens: list[int], n_max: int = 4) -> list[int]:
    lookup = PromptLookup()
    lookup.prepare(tokens)
    return list(lookup.propose(tokens, n_max))


def test_what_stood_behind_the_same_tokens() -> None:
    assert drafted([1, 2, 3, 4, 5, 6, 9, 1, 2, 3]) == [4, 5, 6, 9]


def test_nothing_where_nothing_repeats() -> None:
    assert drafted([1, 2, 3, 4, 5, 6]) == []
    assert drafted([1, 2, 3, 2]) == []  # one token is not enough
    assert drafted([1]) == []


def test_the_longest_match_goes_before_a_later_one() -> None:
    assert drafted([1, 2, 3, 4, 50, 3, 4, 60, 1, 2, 3, 4], 1) == [50]


def test_of_equal_matches_the_latest() -> None:
    assert drafted([3, 4, 50, 3, 4, 60, 8, 3, 4], 1) == [60]


def test_a_place_that_is_right_is_followed() -> None:
    lookup = PromptLookup()
    tokens = [*range(1, 11), 0, 5, 6, 7, 8, 70, 0, 1, 2, 3, 4]
    lookup.propose(tokens, 2)

    assert lookup.propose([*tokens, 5, 6, 7, 8], 2) == [9, 10]  # and not 70, which is nearer


def test_text_that_repeats_itself_goes_on_so() -> None:
    assert drafted([7, 8, 9, 7, 8, 9, 7, 8], 7) == [9, 7, 8, 9, 7, 8, 9]


def test_longer_matches_are_of_a_better_kind() -> None:
    lookup = PromptLookup()
    text = list(range(100))
    kinds = []
    for n_same in (2, 3, 4, 8, 16):
        lookup = PromptLookup()
        lookup.propose([*text, 999, *text[50 - n_same : 50]], 1)
        kinds.append(lookup.kind)

    assert len({kind.name for kind in kinds}) == 5
    assert sorted(kinds, key=lambda kind: kind.prior) == kinds


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8), st.integers(0, 60))
def test_drafts_are_what_a_search_finds(tokens: list[int], n_max: int, n_first: int) -> None:
    lookup = PromptLookup()
    lookup.prepare(tokens[:n_first])

    found = list(lookup.propose(tokens, n_max))

    longest = 0
    for place in range(2, len(tokens)):
        length = 0
        while length < min(4, place) and tokens[place - 1 - length] == tokens[-1 - length]:
            length += 1
        longest = max(longest, length)
    assert bool(found) == (longest >= 2)
    assert len(found) == (n_max if found else 0)


def test_a_token_of_a_long_text_costs_no_more_than_one_of_a_short_text() -> None:
    lookup = PromptLookup()
    tokens = [n * n % 7919 for n in range(32768)]
    lookup.prepare(tokens)

    started = time.perf_counter()
    for n in range(1000):
        tokens.append(n % 100)
        lookup.propose(tokens, 15)

    assert time.perf_counter() - started < 1.0  # a scan takes a millisecond for each
