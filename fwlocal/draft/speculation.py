"""The tokens of an answer, drawn one after the other from rows that were computed together.

The model evaluates [last token, draft...] at once; the sampler draws from the first row, and as
long as that is the drafted token, the next row is the one that decoding one by one would have
computed. At the first that differs, or at the end, the rest is cut from the KV cache. Every token
is drawn once, in order, by the same sampler with the same random numbers: so the answer is the
same as without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Protocol

from fwlocal.draft.controller import Controller
from fwlocal.draft.drafter import MOST_DRAFTED, Drafter, Figures, Kind
from fwlocal.draft.widths import Widths


class Context(Protocol):
    """What of ``fwlocal.llama.Context`` is needed here."""

    n_batch: int

    def decode_rows(self, tokens: Sequence[int]) -> None: ...
    def logits(self, row: int = -1) -> Any: ...
    def logits_bytes(self, row: int = -1) -> bytes: ...
    def truncate(self, n_tokens: int) -> bool: ...
    def synchronize(self) -> None: ...


class Cache(Protocol):
    """What of ``fwlocal.kv_cache.KVCache`` is needed here."""

    tokens: list[int]
    is_compact: bool

    @property
    def n_ctx(self) -> int: ...
    @property
    def context(self) -> Any: ...
    def evaluate_one(self, token: int) -> None: ...


class Sampler(Protocol):
    """What of ``fwlocal.llama.Sampler`` is needed here."""

    def sample(self, computed: Any, row: int = -1) -> int: ...


@dataclass(frozen=True)
class Steering:
    """What decides how much is drafted; it outlives the answer."""

    controller: Controller
    widths: Widths


@dataclass(frozen=True)
class _Draft:
    """Tokens that may follow, and the rows to evaluate them in."""

    kind: Kind
    n_asked: int
    tokens: tuple[int, ...]
    n_rows: int = 1
    is_trial: bool = False


class Speculation:
    """One answer's tokens. ``cache`` holds ``prompt``, whose last logits are there; ``limit`` is
    the most tokens that the answer can have; no draft goes on behind a token of ``is_eog``.

    ``drafters`` are asked in order. With none it decodes one by one.
    """

    def __init__(
        self,
        cache: Cache,
        sampler: Sampler,
        prompt: Sequence[int],
        drafters: Sequence[Drafter],
        steering: Steering,
        *,
        limit: int,
        is_eog: Callable[[int], bool],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.figures = Figures()
        self._cache, self._sampler = cache, sampler
        self._tokens = list(prompt)
        self._n_prompt = len(prompt)
        self._drafters = tuple(drafters)
        self._controller, self._widths = steering.controller, steering.widths
        self._limit, self._is_eog, self._clock = limit, is_eog, clock
        self._row = -1
        self._watched: _Draft | None = None  # one that was not evaluated: is it right?
        self._n_watched = 0

    def prepare(self) -> None:
        """Have the drafters take in the prompt; a part of the prefill."""
        self._controller.begin()
        if self._limit < 2:  # the first token is there already
            self._drafters = ()
        for drafter in self._drafters:
            token_s = drafter.prepare(self._tokens)
            if not drafter.is_free:
                self._controller.prepared(drafter.kind, token_s)

    def tokens(self) -> Generator[int, None, None]:
        """The answer, without an end of its own: the reader closes it. Nothing is evaluated before
        a token is asked for. Raises DoesNotFit when the context is full and cannot grow."""
        try:
            yield self._draw(-1)
            while not self._drafters:
                self._cache.evaluate_one(self._tokens[-1])
                yield self._draw(-1)
            while True:
                draft = self._draft()
                if draft is None:
                    yield self._decode()
                elif draft.is_trial:
                    yield from self._try(draft)
                else:
                    yield from self._verify(draft)
        finally:
            self._cut()

    def logits(self) -> Any:
        """Those that the last token was drawn from; a copy."""
        return self._cache.context.logits(self._row)

    def _decode(self) -> int:
        """The next token, alone."""
        started = self._clock()
        self._cache.evaluate_one(self._tokens[-1])
        self._cache.context.synchronize()
        self._controller.decoded(self._clock() - started)
        return self._draw(-1)

    def _draw(self, row: int) -> int:
        self._row = row
        token = self._sampler.sample(self._cache.context, row)
        self._tokens.append(token)
        self._watch(token)
        return token

    def _draft(self) -> _Draft | None:
        """What to evaluate next, if anything beside the last token."""
        n_cached = len(self._tokens) - 1
        n_left = self._limit - (len(self._tokens) - self._n_prompt)
        n_batch = self._cache.context.n_batch
        most = min(self._cache.n_ctx - n_cached, n_left, n_batch, MOST_DRAFTED + 1)
        if most < 2 or self._is_out_of_place():
            return None
        sure = self._widths.sure(n_cached, most)
        to_try = self._widths.to_try(n_cached, most)
        if not sure and not to_try:
            return None
        for drafter in self._drafters:
            draft = self._guess(drafter, sure, to_try)
            if draft is None:
                continue
            n_rows = self._controller.n_rows(draft.kind, len(draft.tokens), sure)
            if (trial := self._trial(draft, to_try, n_rows)) is not None:
                return trial
            if n_rows > 1:
                return replace(draft, n_rows=n_rows, tokens=draft.tokens[: n_rows - 1])
            self._watched = self._watched or draft
        return None

    def _is_out_of_place(self) -> bool:
        """Whether tokens lie elsewhere in the cache than trials were made for: attention runs over
        all places up to the last, which is another way of rounding."""
        return self._widths.lossless and not self._cache.is_compact

    def _guess(self, drafter: Drafter, sure: Sequence[int], to_try: Sequence[int]) -> _Draft | None:
        controller = self._controller
        if drafter.is_free:
            n_asked = max((*sure, *to_try)) - 1
        elif sure:
            n_asked = controller.n_to_draft(drafter.kind, sure)
        else:
            n_asked = 0 if self._watched else controller.n_to_try(drafter.kind, to_try)
        if not n_asked:
            return None
        started = self._clock()
        found = drafter.propose(self._tokens, n_asked)
        if not drafter.is_free:
            controller.drafted(drafter.kind, len(found), self._clock() - started)
        tokens = tuple(takewhile(lambda token: not self._is_eog(token), found))
        return _Draft(drafter.kind, n_asked, tokens) if tokens else None

    def _trial(self, draft: _Draft, to_try: Iterable[int], n_rows: int) -> _Draft | None:
        """The same as a trial of the number of rows that promises most, if one is due."""
        kind, n_tokens = draft.kind, len(draft.tokens)
        due = [n for n in to_try if self._controller.deserves_trial(kind, n_tokens, n, n_rows)]
        if not due:
            return None
        best = max(due, key=lambda n: self._controller.gain(kind, n_tokens, n))
        return replace(draft, n_rows=best, tokens=draft.tokens[: best - 1], is_trial=True)

    def _verify(self, draft: _Draft) -> Generator[int, None, None]:
        """The tokens of a draft that are right, and the one that follows them."""
        self._watched, self._n_watched = None, 0
        started = self._clock()
        self._evaluate(draft)
        seconds = self._clock() - started
        self._count(len(draft.tokens))
        n_right = 0
        for index in range(len(draft.tokens) + 1):
            token = self._draw(index - draft.n_rows)
            if draft.tokens[index : index + 1] != (token,):
                break
            n_right += 1
            self.figures = replace(self.figures, n_accepted=self.figures.n_accepted + 1)
            yield token
        self._controller.evaluated(draft.kind, draft.n_rows, n_right + 1, seconds)
        self._controller.learned(draft.kind, draft.n_asked, len(draft.tokens), n_right)
        self._cut()
        yield token

    def _try(self, draft: _Draft) -> Generator[int, None, None]:
        """Evaluate a draft, take it back, and decode one by one: are the logits the same?"""
        self._watched, self._n_watched = None, 0
        n_cached = len(self._tokens) - 1
        started = self._clock()
        self._evaluate(draft)
        self._controller.tried(draft.n_rows, self._clock() - started)
        context = self._cache.context
        rows = [context.logits_bytes(index - draft.n_rows) for index in range(draft.n_rows)]
        self._cut()
        n_same = n_right = 0
        for row in rows[: len(draft.tokens) + 1]:
            token = self._decode()
            if row != context.logits_bytes():
                self._widths.note(n_cached, draft.n_rows, 1, is_same=False)
                yield token
                return
            n_same += 1
            if draft.tokens[n_right : n_right + 1] != (token,):
                break
            n_right += 1
            yield token
        self._widths.note(n_cached, draft.n_rows, n_same, is_same=True)
        self._controller.learned(draft.kind, draft.n_asked, len(draft.tokens), n_right)
        yield token

    def _evaluate(self, draft: _Draft) -> None:
        """All rows of a draft; where it is shorter, its last token fills them up."""
        n_missing = draft.n_rows - 1 - len(draft.tokens)
        rows = [self._tokens[-1], *draft.tokens, *draft.tokens[-1:] * n_missing]
        self._cache.context.decode_rows(rows)
        self._cache.tokens += rows
        self._cache.context.synchronize()

    def _cut(self) -> None:
        """Take from the cache what the answer does not have: it holds all but the last token."""
        n_tokens = max(len(self._tokens) - 1, self._n_prompt)
        if len(self._cache.tokens) > n_tokens:
            self._cache.context.truncate(n_tokens)
            del self._cache.tokens[n_tokens:]

    def _watch(self, token: int) -> None:
        """See whether a draft that was not evaluated would have been right."""
        draft = self._watched
        if draft is None:
            return
        if draft.tokens[self._n_watched] == token:
            self._n_watched += 1
            if self._n_watched < len(draft.tokens):
                return
        self._controller.watched(draft.kind, draft.n_asked, len(draft.tokens), self._n_watched)
        self._watched, self._n_watched = None, 0

    def _count(self, n_drafted: int) -> None:
        figures = self.figures
        self.figures = replace(
            figures,
            n_drafted=figures.n_drafted + n_drafted,
            n_batches=figures.n_batches + 1,
        )
