"""What guesses the next tokens, and how the guessing went. Nothing here knows how to guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MOST_DRAFTED = 15  # tokens at once; with the one before them, 16 rows


@dataclass(frozen=True)
class Kind:
    """Drafts that are right about as often as each other: their acceptance is remembered under
    ``name``. Before anything is known, a token of them is right with the probability ``prior``."""

    name: str
    prior: float


class Drafter(Protocol):
    """Guesses how a sequence of tokens goes on.

    ``is_free`` when a guess takes no time worth counting. ``kind`` is that of the last guess, and
    of the next one too where guesses are not free.
    """

    @property
    def is_free(self) -> bool: ...
    @property
    def kind(self) -> Kind: ...

    def prepare(self, tokens: Sequence[int]) -> float:
        """Take in a prompt; the seconds that one drafted token takes, 0 where that is unknown."""
        ...

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        """At most ``n_max`` tokens that may follow ``tokens``, which are those of the last call
        and more; none where it has no guess."""
        ...


@dataclass(frozen=True)
class Figures:
    """Of one answer: tokens that were drafted and evaluated by the model, how many of them were
    right, and how many batches that took. Trials of what may be evaluated at once do not count."""

    n_drafted: int = 0
    n_accepted: int = 0
    n_batches: int = 0
