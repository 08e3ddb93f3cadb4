"""A model that answers with drafts or without, on the clock, and the synthetic pair at work."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fwlocal import llama
from fwlocal.draft import (
    Drafter,
    DraftModel,
    Figures,
    KnownWidths,
    Speculation,
    Steering,
)
from fwlocal.draft.widths import CPU_WIDTHS
from fwlocal.kv_cache import KVCache
from fwlocal.sampling import SamplingParams
from tests.paired_llama import Pair, write_pair

GREEDY = SamplingParams(temperature=0, seed=0)
EXACT = KnownWidths(
    CPU_WIDTHS, (), CPU_WIDTHS, ()
)  # as Q8_0 is, with one thread or up to 256 tokens


@dataclass(frozen=True)
class Said:
    """One answer."""

    tokens: tuple[int, ...]
    seconds: float
    figures: Figures
    logits: tuple[bytes, ...]


class Machine:
    """A model with a cache, which answers with drafters or without."""

    def __init__(self, path: Path, options: llama.ContextOptions) -> None:
        self.model = llama.Model(path, llama.LoadOptions(mmap=False))
        self.cache = KVCache(self.model, options, lambda: False)

    def close(self) -> None:
        self.cache.close()
        self.model.close()

    def answer(
        self,
        prompt: Sequence[int],
        n_tokens: int,
        drafters: Sequence[Drafter],
        steering: Steering,
        params: SamplingParams = GREEDY,
        *,
        clock: Callable[[], float] = time.perf_counter,
        keeps_logits: bool = False,
    ) -> Said:
        """An answer, and how long its decoding took. ``clock`` is the controller's."""
        self.cache.clear()
        self.cache.make_room(len(prompt), n_tokens)
        self.cache.evaluate(prompt)
        stages = [(stage.name, stage.arguments) for stage in params.stages]
        sampler = llama.Sampler(self.model, stages, params.grammar)
        sampler.remember(prompt[-64:])
        is_eog = self.model.is_eog
        speculation = Speculation(
            self.cache,
            sampler,
            prompt,
            drafters,
            steering,
            limit=n_tokens,
            is_eog=is_eog,
            clock=clock,
        )
        speculation.prepare()
        self.cache.context.synchronize()
        said, logits = [], []
        started = time.perf_counter()
        with closing(speculation.tokens()) as steps:
            for token in itertools.islice(steps, n_tokens):
                said.append(token)
                if keeps_logits:
                    logits.append(speculation.logits().tobytes())
                if is_eog(token):
                    break
        seconds = time.perf_counter() - started
        return Said(tuple(said), seconds, speculation.figures, tuple(logits))


def spread(ratios: Sequence[float]) -> str:
    """The median, and from where to where."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def in_turns(one: Callable[[], Said], other: Callable[[], Said], number: int) -> tuple[Said, Said]:
    """Both, the second one first in every other round."""
    if number % 2:
        second = other()
        return one(), second
    first = one()
    return first, other()


@dataclass(frozen=True)
class PairAtWork:
    """Both models, loaded; ``drafter`` drafts for ``machine`` in ``cache``."""

    pair: Pair
    machine: Machine
    cache: KVCache
    drafter: DraftModel


@contextmanager
def opened_pair(threads: int, **sizes: int) -> Iterator[PairAtWork]:
    """The synthetic pair, written and loaded; ``sizes`` are those of ``write_pair``."""
    options = llama.ContextOptions(n_ctx=512, n_threads=threads)
    with ExitStack() as stack:
        pair = write_pair(Path(stack.enter_context(tempfile.TemporaryDirectory())), **sizes)
        machine = stack.enter_context(closing(Machine(pair.target, options)))
        model = stack.enter_context(closing(llama.Model(pair.draft, llama.LoadOptions())))
        cache = KVCache(model, options, lambda: False)
        drafter = stack.enter_context(closing(DraftModel(cache, model.n_vocab)))
        yield PairAtWork(pair, machine, cache, drafter)
