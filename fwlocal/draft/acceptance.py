"""How often drafted tokens are right, place by place in the draft. Pure.

What is long ago counts less: text changes. A place that was seldom reached is taken to be like the
one before it, and the first one, before anything is known, like the kind's prior.
"""

from __future__ import annotations

from fwlocal.draft.drafter import MOST_DRAFTED

_FORGET = 0.94  # what an observation weighs after the next one of its place
_PRIOR_WEIGHT = 2.0  # observations


class Acceptance:
    """Of drafts of one kind."""

    def __init__(self, prior: float) -> None:
        self._prior = prior
        self._right = [0.0] * MOST_DRAFTED
        self._seen = [0.0] * MOST_DRAFTED
        self.n_seen = 0  # drafted tokens whose fate is known

    def note(self, n_drafted: int, n_right: int) -> None:
        """A draft's first ``n_right`` tokens were right; the next one, if there was one, was not,
        and what follows a wrong one says nothing."""
        for place in range(min(n_right + 1, n_drafted, MOST_DRAFTED)):
            self._right[place] = self._right[place] * _FORGET + (place < n_right)
            self._seen[place] = self._seen[place] * _FORGET + 1
            self.n_seen += 1

    def expected(self, n_drafted: int) -> float:
        """How many of ``n_drafted`` tokens will be right."""
        rate, reached, total = self._prior, 1.0, 0.0
        for place in range(min(n_drafted, MOST_DRAFTED)):
            observed = self._right[place] + _PRIOR_WEIGHT * rate
            rate = observed / (self._seen[place] + _PRIOR_WEIGHT)
            reached *= rate
            total += reached
        return total
