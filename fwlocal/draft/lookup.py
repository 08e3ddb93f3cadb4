"""Drafts from the prompt and the answer so far: what followed the last time, follows again.

The longest of the last few tokens that stood there before are looked for, their most recent place
first; a place that has been right goes on to be followed. Time and memory are constant for each
token: every n-gram is entered once, when it is known what follows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fwlocal.draft.drafter import Kind

LONGEST, SHORTEST = 4, 2  # tokens of the n-grams that are looked up
_REACH = 16  # tokens before a place that are compared, to tell how much it is like this one

# Matching tokens, at least -> their kind. A pair says little, a sentence that repeats says much.
_KINDS = (
    (16, Kind("lookup 16", 0.9)),
    (8, Kind("lookup 8", 0.8)),
    (4, Kind("lookup 4", 0.6)),
    (3, Kind("lookup 3", 0.4)),
    (0, Kind("lookup 2", 0.25)),
)


class PromptLookup:
    """A Drafter for one answer: its tokens may only grow."""

    is_free = True

    def __init__(self) -> None:
        self.kind = _KINDS[-1][1]
        self._n_known = 0
        self._places: dict[tuple[int, ...], int] = {}  # n-gram -> where what followed it stands
        self._followed = 0  # the place of the token that is expected next; 0 for none

    def prepare(self, tokens: Sequence[int]) -> float:
        """Enter the prompt's n-grams."""
        self._learn(tokens)
        return 0.0

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        """What followed the last tokens where they stood before."""
        self._learn(tokens)
        self._followed = self._followed or self._find(tokens)
        if not self._followed:
            return ()
        n_same = self._n_same(tokens, self._followed)
        self.kind = next(kind for least, kind in _KINDS if n_same >= least)
        guess = list(tokens[self._followed : self._followed + n_max])
        period = len(tokens) - self._followed
        while len(guess) < n_max:  # text that repeats itself right up to here
            guess.append(guess[len(guess) - period])
        return guess

    def _learn(self, tokens: Sequence[int]) -> None:
        """Enter what each new token follows, and see whether it was the expected one."""
        for place in range(max(self._n_known, 1), len(tokens)):
            if self._followed:
                right = tokens[self._followed] == tokens[place]
                self._followed = self._followed + 1 if right else 0
            for length in range(SHORTEST, min(LONGEST, place) + 1):
                self._places[tuple(tokens[place - length : place])] = place
        self._n_known = len(tokens)

    def _find(self, tokens: Sequence[int]) -> int:
        for length in range(min(LONGEST, len(tokens)), SHORTEST - 1, -1):
            if place := self._places.get(tuple(tokens[-length:]), 0):
                return place
        return 0

    def _n_same(self, tokens: Sequence[int], place: int) -> int:
        """How many tokens before ``place`` are the last ones."""
        for length in range(min(_REACH, place)):
            if tokens[place - 1 - length] != tokens[-1 - length]:
                return length
        return min(_REACH, place)
