"""A model whose answers are written beforehand and whose time is a formula.

Its logits tell which tokens they were computed from: what is drawn from rows behind a wrong token,
or from a cache with a wrong token in it, is wrong, as it would be in a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fwlocal.draft import Kind

WRONG = -1
PROMPT = [1, 2, 3]
ORACLE = Kind("oracle", 0.7)


class Clock:
    """Seconds that pass only when something is computed."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Context:
    """Says ``script`` after PROMPT. ``cost`` are the seconds of so many rows; ``is_exact`` whether
    so many rows are computed as each alone."""

    script: Sequence[int]
    clock: Clock
    cost: Callable[[int], float] = lambda rows: 1.0
    is_exact: Callable[[int], bool] = lambda rows: True
    n_batch: int = 512
    cached: list[int] = field(default_factory=list)
    rows: list[tuple[int, bool]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def decode_rows(self, tokens: Sequence[int]) -> None:
        self.clock.now += self.cost(len(tokens))
        self.batches.append(len(tokens))
        truth = [*PROMPT, *self.script]
        self.rows = []
        for token in tokens:
            self.cached.append(token)
            follows = len(self.cached)
            is_right = self.cached == truth[:follows]
            row = truth[follows] if is_right and follows < len(truth) else WRONG
            self.rows.append((row, self.is_exact(len(tokens))))

    def truncate(self, n_tokens: int) -> bool:
        del self.cached[n_tokens:]
        return True

    def synchronize(self) -> None:
        pass

    def logits(self, row: int = -1) -> object:
        return self.rows[row]

    def logits_bytes(self, row: int = -1) -> bytes:
        return repr(self.rows[row]).encode()


class Cache:
    """As much of a KV cache as is needed; the prompt is in it."""

    def __init__(self, context: Context, n_ctx: int = 4096) -> None:
        self.tokens: list[int] = []
        self.is_compact = True
        self.n_ctx = n_ctx
        self.context = context
        context.decode_rows(PROMPT)
        self.tokens += PROMPT
        context.clock.now = 0.0
        context.batches.clear()

    def evaluate_one(self, token: int) -> None:
        self.context.decode_rows([token])
        self.tokens.append(token)


class Sampler:
    """Greedy: the token that a row tells."""

    def __init__(self) -> None:
        self.n_drawn = 0

    def sample(self, computed: Context, row: int = -1) -> int:
        self.n_drawn += 1
        return computed.rows[row][0]


@dataclass
class Oracle:
    """A Drafter that knows the script, and is wrong where ``is_right`` says so of a place in it.
    A token takes ``token_s``; the clock goes on."""

    context: Context
    is_right: Callable[[int], bool] = lambda place: True
    token_s: float = 0.0
    kind: Kind = ORACLE
    asked: list[int] = field(default_factory=list)

    @property
    def is_free(self) -> bool:
        return self.token_s == 0

    def prepare(self, tokens: Sequence[int]) -> float:
        return self.token_s

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        self.asked.append(n_max)
        first = len(tokens) - len(PROMPT)
        places = range(first, min(first + n_max, len(self.context.script)))
        self.context.clock.now += self.token_s * len(places)
        return [self.context.script[n] if self.is_right(n) else 9999 for n in places]
