"""Answers on a device whose time is a formula, steered by a real controller."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from fwlocal.draft import CPU_ROW_COST, Controller, Speculation, Steering, Widths
from fwlocal.draft.widths import ANY_WIDTHS
from tests.draft.fakes import PROMPT, Cache, Clock, Context, Oracle, Sampler

ANSWER = 200


class Simulated:
    """Answers one after the other, with one controller, on a device where a batch of K rows takes
    ``row_cost`` for each row after the first, and a drafted token ``token_s`` single decodes.

    ``pace`` are the seconds of a single decode when so many tokens of an answer are said;
    ``row_cost`` may be a function of them, too. ``believed`` is the controller's ``row_cost``, and
    ``known`` what it was told of batches.
    """

    def __init__(
        self,
        row_cost: float | Callable[[int], float],
        token_s: float,
        *,
        noise: float = 0.0,
        is_exact: Callable[[int], bool] | None = None,
        pace: Callable[[int], float] = lambda said: 1.0,
        believed: float = CPU_ROW_COST,
        known: Mapping[int, float] | None = None,
    ) -> None:
        self._random = random.Random(0)
        self._row_cost = row_cost if callable(row_cost) else lambda said: row_cost
        self._token_s, self._noise, self._pace = token_s, noise, pace
        self._steering = Steering(
            Controller(believed, known), Widths(lossless=is_exact is not None)
        )
        self._is_exact = is_exact or (lambda rows: True)
        self.clock = Clock()

    def speed(self, is_right: Callable[[int], bool], n_tokens: int = ANSWER) -> float:
        """Of an answer, as a part of that of decoding one by one."""
        script = [10 + n % 50 for n in range(n_tokens + 20)]
        context = Context(script, self.clock, lambda rows: 0.0, self._is_exact)

        def cost(rows: int) -> float:
            said = max(len(context.cached) - len(PROMPT), 0)
            wobble = 1 + self._noise * self._random.uniform(-1, 1)
            return (1 + self._row_cost(said) * (rows - 1)) * wobble * self._pace(said)

        context.cost = cost
        cache = Cache(context)
        self.clock.now = 0.0
        speculation = Speculation(
            cache,
            Sampler(),
            PROMPT,
            [Oracle(context, is_right, self._token_s)],
            self._steering,
            limit=n_tokens + 1,
            is_eog=lambda token: False,
            clock=self.clock,
        )
        speculation.prepare()
        steps = speculation.tokens()
        list(islice(steps, n_tokens + 1))  # the first one needs no evaluation
        steps.close()
        return sum(self._pace(said) for said in range(n_tokens)) / self.clock.now


def by_chance(share: float, seed: int = 0) -> Callable[[int], bool]:
    """Each place of a script is drafted rightly with that probability."""
    chances = random.Random(seed)
    fates = [chances.random() < share for _ in range(5000)]
    return lambda place: fates[place]


def best_fixed(
    is_right: Callable[[int], bool],
    row_cost: float,
    token_s: float,
    n_tokens: int,
    widths: Sequence[int] = ANY_WIDTHS,
) -> float:
    """The speed of the best number of rows, had it been known beforehand; 1 for not drafting."""
    return max(1.0, *(_fixed(is_right, row_cost, token_s, n_tokens, n) for n in widths))


def _fixed(
    is_right: Callable[[int], bool], row_cost: float, token_s: float, n_tokens: int, width: int
) -> float:
    said, seconds = 0, 0.0
    while said < n_tokens:
        seconds += 1 + (row_cost + token_s) * (width - 1)
        n_right = 0
        while n_right < width - 1 and is_right(said + n_right):
            n_right += 1
        said += n_right + 1
    return said / seconds
