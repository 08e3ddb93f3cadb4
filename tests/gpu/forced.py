"""Answers of two models whose agreement is forced, on the clock.

Random models never agree. So the draft really drafts, the model really evaluates all rows and the
answer's sampler really draws, each at its cost, and what was not accepted is really cut from both
KV caches; but whether the answer goes on as drafted is decided, for every token, by a seeded coin.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from fwlocal import llama
from fwlocal.draft import (
    Controller,
    Drafter,
    DraftModel,
    Kind,
    Speculation,
    Steering,
    Widths,
    check_draft,
)
from fwlocal.draft.speculation import Sampler
from fwlocal.gguf import read_header
from fwlocal.kv_cache import KVCache
from fwlocal.sampling import SamplingParams
from tests.draft.forced import Forced
from tests.tiny_llama import BYTES

STAGES = [(stage.name, stage.arguments) for stage in SamplingParams(temperature=0).stages]
ROOM = 64  # tokens that a context must hold beside prompt and answer, or the draft keeps silent


class Coin:
    """The Drafter and the Sampler of an answer that goes on as ``drafter`` drafts with the
    probability ``acceptance`` for each token; where it does not, and where nothing was drafted, as
    ``sampler`` draws, which is asked every time."""

    is_free = False

    def __init__(
        self, drafter: Drafter, sampler: Sampler, acceptance: float, seed: int, n_vocab: int
    ) -> None:
        self.kind: Kind = drafter.kind
        self._drafter, self._sampler = drafter, sampler
        self._acceptance, self._last = acceptance, n_vocab - 1
        self._chances = random.Random(seed)
        self._drafted: list[int] = []  # and not yet decided of

    def prepare(self, tokens: Sequence[int]) -> float:
        """Have the drafter take in a prompt."""
        return self._drafter.prepare(tokens)

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        """What the drafter drafts."""
        self._drafted = list(self._drafter.propose(tokens, n_max))
        return tuple(self._drafted)

    def sample(self, computed: Any, row: int = -1) -> int:
        """The next token."""
        own = self._sampler.sample(computed, row)
        if not self._drafted:
            return own
        drafted = self._drafted.pop(0)
        if self._chances.random() < self._acceptance:
            return drafted
        self._drafted.clear()
        if own != drafted:
            return own
        return drafted + 1 if drafted < self._last else drafted - 1


@dataclass
class Log:
    """What a controller was told of one answer: seconds of single tokens, of drafts and, with
    their rows, of batches; of each draft how many tokens it had and how many were right."""

    singles_s: list[float] = field(default_factory=list)
    drafts_s: list[float] = field(default_factory=list)
    batches: list[tuple[int, float]] = field(default_factory=list)
    fates: list[tuple[int, int]] = field(default_factory=list)

    @property
    def n_decided(self) -> int:
        """Drafted tokens whose fate is known: those behind a wrong one say nothing."""
        return sum(min(n_right + 1, n_drafted) for n_drafted, n_right in self.fates)

    @property
    def n_right(self) -> int:
        """Those of them that were accepted."""
        return sum(n_right for _, n_right in self.fates)

    @property
    def n_drafted(self) -> int:
        """Drafted tokens that were evaluated."""
        return sum(n_rows - 1 for n_rows, _ in self.batches)


class Recording(Controller):
    """Decides as any, and keeps a log of the answer."""

    def begin(self) -> None:
        super().begin()
        self.log = Log()

    def decoded(self, seconds: float) -> None:
        super().decoded(seconds)
        self.log.singles_s.append(seconds)

    def drafted(self, kind: Kind, n_tokens: int, seconds: float) -> None:
        super().drafted(kind, n_tokens, seconds)
        self.log.drafts_s.append(seconds)

    def evaluated(self, kind: Kind, width: int, n_tokens: int, seconds: float) -> None:
        super().evaluated(kind, width, n_tokens, seconds)
        self.log.batches.append((width, seconds))

    def learned(self, kind: Kind, n_asked: int, n_drafted: int, n_right: int) -> None:
        super().learned(kind, n_asked, n_drafted, n_right)
        self.log.fates.append((n_drafted, n_right))


class RecordingForced(Recording, Forced):
    """Drafts for as many rows as it is told, and keeps a log."""


def predicted_tps(log: Log, acceptance: float) -> float:
    """Tokens per second that acceptance and cost predict: a batch brings 1 + a + a² + ... tokens,
    a power for each that was drafted (Leviathan et al., arXiv:2211.17192, equation 1), a single
    decode one, in the seconds that drafts, batches and single decodes took. Drawing, cutting and
    the coin's luck are not in it."""
    n_tokens = len(log.singles_s) + sum(
        acceptance**power for n_rows, _ in log.batches for power in range(n_rows)
    )
    seconds = sum(log.singles_s) + sum(log.drafts_s) + sum(s for _, s in log.batches)
    return n_tokens / seconds


@dataclass(frozen=True)
class Answer:
    """Its tokens without the first, which comes of the prefill; ``decode_s`` is theirs."""

    tokens: tuple[int, ...]
    prefill_s: float
    decode_s: float
    log: Log

    @property
    def decode_tps(self) -> float:
        """Tokens per second."""
        return len(self.tokens) / self.decode_s


class LoadedPair:
    """A model with a cache, and a draft for it."""

    def __init__(self, model: llama.Model, cache: KVCache, drafter: DraftModel) -> None:
        self.cache = cache
        self._model, self._drafter = model, drafter

    def answer(
        self,
        prompt: Sequence[int],
        n_tokens: int,
        controller: Recording,
        acceptance: float | None = None,
        seed: int = 0,
    ) -> Answer:
        """So many tokens behind the first; without an ``acceptance`` nothing is drafted."""
        prefill_s = self._prefill(prompt)
        sampler = llama.Sampler(self._model, STAGES, None)
        coin = Coin(self._drafter, sampler, acceptance or 0.0, seed, self._model.n_vocab)
        speculation = Speculation(
            self.cache,
            coin,
            prompt,
            [] if acceptance is None else [coin],
            # Any number of rows, as on a GPU: which token is right does not depend on logits here.
            Steering(controller, Widths(lossless=False)),
            limit=n_tokens + 1,
            is_eog=lambda token: False,
        )
        speculation.prepare()
        with closing(speculation.tokens()) as steps:
            next(steps)
            started = time.perf_counter()
            tokens = tuple(islice(steps, n_tokens))
            decode_s = time.perf_counter() - started
        return Answer(tokens, prefill_s, decode_s, controller.log)

    def _prefill(self, prompt: Sequence[int]) -> float:
        """The seconds that it takes."""
        self.cache.clear()
        self.cache.make_room(len(prompt), 0)
        self.cache.context.synchronize()
        started = time.perf_counter()
        self.cache.evaluate(prompt)
        self.cache.context.synchronize()
        return time.perf_counter() - started


def prompt_of(n_tokens: int) -> list[int]:
    """So many tokens that any model of ours has."""
    return [BYTES + number % 256 for number in range(n_tokens)]


@contextmanager
def opened_pair(
    target: Path, draft: Path, device: str | None, options: llama.ContextOptions
) -> Iterator[LoadedPair]:
    """Both, all of their layers on ``device``, or on the CPU without one. The draft never keeps
    silent: random models are sure of nothing. Raises UsageError where it cannot draft."""
    check_draft(read_header(target), read_header(draft))
    with ExitStack() as stack:
        opened = []
        for path in (draft, target):  # in this order they are placed by fwlocal, too
            model = stack.enter_context(closing(llama.Model(path, placed(path, device))))
            cache = stack.enter_context(closing(KVCache(model, options, lambda: False)))
            cache.open()
            opened.append((model, cache))
        (draft_model, draft_cache), (model, cache) = opened
        drafter = DraftModel(draft_cache, draft_model.n_vocab, least_probability=0.0)
        yield LoadedPair(model, cache, drafter)


def placed(path: Path, device: str | None) -> llama.LoadOptions:
    """All layers and the output on ``device``."""
    if device is None:
        return llama.LoadOptions()
    n_layers = read_header(path).number("{arch}.block_count") or 0
    return llama.LoadOptions(split={device: n_layers + 1})
