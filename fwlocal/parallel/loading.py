"""Loading a model for many answers at once: planned with all their contexts, in this process.

The plan is that of one answer, with more contexts beside it: where those would push layers off a
GPU, or the KV cache into another type, fewer answers run at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fwlocal import llama
from fwlocal.errors import DoesNotFit, Interrupted
from fwlocal.formats import choose_format
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.loader.here import load_weights
from fwlocal.loader.native_plan import context_options
from fwlocal.loader.opening import silent
from fwlocal.loader.options import EngineOptions, request_of
from fwlocal.loader.planning import Settled, check_growth, look_around, settle, with_less
from fwlocal.offload import OffloadPlan, default_n_ctx
from fwlocal.parallel.lanes import Lanes
from fwlocal.parallel.size import PoolSize
from fwlocal.store import ModelFile
from fwlocal.store.usage import note_use


@dataclass(frozen=True)
class LoadedSeveral:
    """A model and the lanes that it answers in; ``plan`` is for all of them."""

    model: llama.Model
    lanes: Lanes
    plan: OffloadPlan
    load_s: float

    def close(self) -> None:
        """Free both."""
        self.lanes.close()
        self.model.close()


def context_limit(options: EngineOptions, header: GGUFHeader) -> int:
    """The most tokens that one answer's context may have. Raises UsageError."""
    if options.n_ctx is not None:
        return request_of(options, header).n_ctx
    return header.number("{arch}.context_length") or default_n_ctx(0)


def load_several(
    file: ModelFile,
    header: GGUFHeader,
    options: EngineOptions,
    size: PoolSize,
    *,
    notify: Callable[[str], None] = silent,
    on_progress: Callable[[float], None] = lambda fraction: None,
    interrupt: Interrupt | None = None,
) -> LoadedSeveral:
    """Load for ``size``, or for fewer lanes where those do not fit, which is told.

    Raises the errors of ``fwlocal.loader.load``; workers are not for this.
    """
    interrupt = interrupt or Interrupt()
    if not options.raw:
        choose_format(file, header, options.prompt_format)
    settled, fitting = plan_several(file, header, options, size, interrupt)
    if fitting.n_lanes < size.n_lanes:
        notify(
            f"{fitting.n_lanes} instead of {size.n_lanes} answers at once: more contexts of "
            f"{size.n_ctx} tokens do not fit"
        )
    while True:
        try:
            loaded = _load(settled, fitting, on_progress, interrupt)
            break
        except DoesNotFit as refusal:
            if interrupt.is_set():
                raise Interrupted(exit_code=interrupt.exit_code) from None
            settled, line = with_less(settled, refusal, header, interrupt)
            notify(line)
    note_use(file)
    return loaded


def plan_several(
    file: ModelFile,
    header: GGUFHeader,
    options: EngineOptions,
    size: PoolSize,
    interrupt: Interrupt | None = None,
) -> tuple[Settled, PoolSize]:
    """The plan for the most lanes that leave the layers where one alone has them; and how many
    those are. Raises DoesNotFit where not even one fits."""
    site = look_around((), options.n_threads)
    request = request_of(options, header)
    one = settle(file.path, header, site, replace(request, n_ctx=size.n_ctx), interrupt)
    for fewer in _fewer(size):
        if fewer.all_lanes == 1:
            break
        try:
            wanted = replace(
                request,
                n_ctx=fewer.total_n_ctx,
                kv_type=one.plan.kv_type,
                shrink_context=False,
            )
            several = settle(file.path, header, site, wanted, interrupt)
        except DoesNotFit:
            continue
        if several.plan.n_gpu_layers == one.plan.n_gpu_layers:
            return several, fewer
    return one, replace(size, n_lanes=1, n_ctx=min(size.n_ctx, one.plan.n_ctx), keeps_prefix=False)


def _fewer(size: PoolSize) -> Iterator[PoolSize]:
    """Sizes to try, the widest first, a quarter less each time."""
    n_lanes = size.n_lanes
    while n_lanes > 1:
        yield replace(size, n_lanes=n_lanes)
        n_lanes = n_lanes * 3 // 4
    yield replace(size, n_lanes=1)
    yield replace(size, n_lanes=1, keeps_prefix=False)


def _load(
    settled: Settled,
    size: PoolSize,
    on_progress: Callable[[float], None],
    interrupt: Interrupt,
) -> LoadedSeveral:
    def open_sequences(n_ctx: int) -> llama.Sequences:
        """Of a lane's size; larger ones than were planned only where they fit."""
        if n_ctx > size.n_ctx:
            check_growth(settled, 0, n_ctx * size.all_lanes)
        options = context_options(settled.plan, settled.site.n_threads, n_ctx)
        return llama.Sequences(model, options, size.all_lanes, interrupt.is_set)

    started = time.perf_counter()
    model = load_weights(settled.path, settled, on_progress, interrupt)
    try:
        lanes = Lanes(size, open_sequences)
    except BaseException:
        model.close()
        raise
    return LoadedSeveral(model, lanes, settled.plan, time.perf_counter() - started)
