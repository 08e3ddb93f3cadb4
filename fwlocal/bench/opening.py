"""A level loaded to be measured: planned as for a chat, its weights here, contexts as they are
needed; all of it freed at the end.

What is measured on it, it does not know.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from fwlocal import llama
from fwlocal.audit import compare
from fwlocal.bench.measured import Entrant
from fwlocal.bench.result import DeviceBytes
from fwlocal.errors import DoesNotFit, Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.loader.here import load_weights
from fwlocal.loader.native_plan import context_options
from fwlocal.loader.opening import silent
from fwlocal.loader.options import EngineOptions, request_of
from fwlocal.loader.planning import (
    Settled,
    check_growth,
    is_risky,
    look_around,
    settle,
    try_out,
    with_less,
)
from fwlocal.offload.context import rounded_n_ctx


class Opened:
    """A loaded level and its contexts; ``load_s`` are the seconds until the first one stood, and
    ``devices`` what it took with that one, by the buffers that llama.cpp made."""

    def __init__(
        self,
        settled: Settled,
        model: llama.Model,
        first: llama.Context,
        load_s: float,
        interrupt: Interrupt,
    ) -> None:
        self.settled, self.model, self.load_s = settled, model, load_s
        self.devices = _devices(settled, model, first)
        self._contexts = [first]
        self._spare: llama.Context | None = first
        self._interrupt = interrupt

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the contexts and the weights."""
        for context in self._contexts:
            context.close()
        self.model.close()

    def context(self, n_ctx: int | None = None) -> llama.Context:
        """An empty KV cache of ``n_ctx`` tokens, else of those that were planned; freed with the
        level, or by its ``close``. Raises DoesNotFit."""
        n_ctx = self.settled.plan.n_ctx if n_ctx is None else rounded_n_ctx(n_ctx)
        spare, self._spare = self._spare, None
        if spare is not None and spare.n_ctx == n_ctx:
            return spare
        if spare is not None:
            spare.close()
        context = llama.Context(self.model, self._options(n_ctx), self._interrupt.is_set)
        self._contexts.append(context)
        return context

    @contextlib.contextmanager
    def evaluation(self, n_ctx: int, n_batch: int | None = None) -> Iterator[llama.Evaluation]:
        """What gives the logits of all positions of up to ``n_ctx`` tokens; ``n_batch`` None is the
        plan's. Freed at the end. Raises DoesNotFit."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()
        options = self._options(n_ctx)
        options = options if n_batch is None else replace(options, n_batch=n_batch)
        with contextlib.closing(
            llama.Evaluation(self.model, options, self._interrupt.is_set)
        ) as evaluation:
            yield evaluation

    def _options(self, n_ctx: int) -> llama.ContextOptions:
        """Of a context; raises DoesNotFit for one that is larger than planned and finds no room."""
        settled = self.settled
        if n_ctx > settled.plan.n_ctx:
            check_growth(settled, 0, n_ctx)
        return context_options(settled.plan, settled.site.n_threads, n_ctx)


def open_level(
    entrant: Entrant,
    options: EngineOptions,
    n_ctx: int,
    *,
    notify: Callable[[str], None] = silent,
    on_progress: Callable[[float], None] = lambda fraction: None,
    interrupt: Interrupt | None = None,
) -> Opened:
    """Load a level for contexts of ``n_ctx`` tokens; with fewer layers where a GPU refuses, which
    ``notify`` is told. ``on_progress`` gets the fraction loaded.

    Raises DoesNotFit, BadModelFile, FwlocalError where llama.cpp makes no context; Interrupted
    when ``interrupt`` is set while loading.
    """
    interrupt = interrupt or Interrupt()
    settled = plan_level(entrant, options, n_ctx, interrupt)
    while True:
        try:
            if is_risky(settled):
                try_out(settled, interrupt)
            return _load(settled, on_progress, interrupt)
        except DoesNotFit as refusal:
            if interrupt.is_set():
                raise Interrupted(exit_code=interrupt.exit_code) from None
            settled, line = with_less(settled, refusal, entrant.header, interrupt)
            notify(line)


def plan_level(
    entrant: Entrant, options: EngineOptions, n_ctx: int, interrupt: Interrupt | None = None
) -> Settled:
    """Where a level's layers go on this machine beside ``n_ctx`` tokens. Raises DoesNotFit.

    Neither ``options.n_ctx`` nor workers count: a level is measured here, with what that takes;
    nor does what ``fwlocal tune`` found, which would compare levels by more than their weights.
    """
    request = request_of(replace(options, n_ctx=None, tuned=False), entrant.header)
    request = replace(request, n_ctx=rounded_n_ctx(n_ctx), shrink_context=False)
    site = look_around((), options.n_threads)
    return settle(entrant.file.path, entrant.header, site, request, interrupt)


def _load(settled: Settled, on_progress: Callable[[float], None], interrupt: Interrupt) -> Opened:
    started = time.perf_counter()
    model = load_weights(settled.path, settled, on_progress, interrupt)
    try:
        options = context_options(settled.plan, settled.site.n_threads)
        first = llama.Context(model, options, interrupt.is_set)
    except BaseException:
        model.close()
        raise
    return Opened(settled, model, first, time.perf_counter() - started, interrupt)


def _devices(
    settled: Settled, model: llama.Model, context: llama.Context
) -> tuple[DeviceBytes, ...]:
    """By device, GPUs first."""
    buffers = (*model.buffers, *context.buffers)
    taken = compare(settled.plan, buffers, settled.site.buffer_names)
    return tuple(DeviceBytes(device.device, **device.actual) for device in taken)
