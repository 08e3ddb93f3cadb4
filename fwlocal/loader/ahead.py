"""What saves an engine work: a smaller model that drafts for it, the text itself, and prompts that
were evaluated before.

A draft is planned first: it goes on the GPU before the model does, since each of its tokens must
be cheap. Where there is no memory for both, the model goes without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from fwlocal import llama
from fwlocal.draft import (
    CPU_ROW_COST,
    GPU_ROW_COST,
    Controller,
    Drafting,
    DraftModel,
    Steering,
    Widths,
    check_draft,
)
from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Machine
from fwlocal.interrupts import Interrupt
from fwlocal.kv_cache import KVCache
from fwlocal.library import Library
from fwlocal.loader.native_plan import context_options, load_options
from fwlocal.loader.opening import open_file
from fwlocal.loader.planning import Settled, Site, check_growth, settle
from fwlocal.offload import OffloadPlan, Request
from fwlocal.prefix_cache import (
    KeptPrefixes,
    NoPrefixes,
    PrefixCache,
    Prefixes,
    Setting,
    default_folder,
    setting_of,
)
from fwlocal.store import ModelFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DraftFile:
    """A model that is to draft; its header was checked."""

    file: ModelFile
    header: GGUFHeader


def find_draft(
    named: str, file: ModelFile, header: GGUFHeader, library: Library
) -> DraftFile | None:
    """The model that ``named`` means: "off" is none, "auto" the one that models.toml names for this
    model, if it is on this disk and can draft.

    Raises, for a name, what ``open_file`` does, and UsageError where it cannot draft.
    """
    wanted = named
    if named == "auto":
        wanted = (file.spec.draft if file.spec is not None else None) or "off"
    if wanted == "off":
        return None
    try:
        draft = DraftFile(*open_file(wanted, library))
        check_draft(header, draft.header)
    except FwlocalError:
        if named == "auto":
            return None
        raise
    return draft


@dataclass(frozen=True)
class PlannedDraft:
    """The same, with its place."""

    draft: DraftFile
    settled: Settled


def plan_with_draft(
    draft: DraftFile,
    header: GGUFHeader,
    site: Site,
    request: Request,
    plan: Callable[[Site], Settled],
    interrupt: Interrupt,
) -> tuple[PlannedDraft, Settled]:
    """The draft's place for as many tokens as the model has, and the model's, by ``plan``, in what
    the draft leaves of ``site``.

    Raises UsageError for a model that cannot draft for this one, DoesNotFit where there is no
    memory for both.
    """
    check_draft(header, draft.header)
    trained = draft.header.number("{arch}.context_length") or request.n_ctx
    own = replace(request, n_ctx=min(request.n_ctx, trained), n_gpu_layers=None)
    placed = settle(draft.file.path, draft.header, site, own, interrupt)
    rest = replace(site, machine=_less(site.machine, placed.plan))
    return PlannedDraft(draft, placed), plan(rest)


def _less(machine: Machine, plan: OffloadPlan) -> Machine:
    """The machine with what a plan takes no longer free."""
    taken = {share.device: share.total_bytes for share in plan.shares}
    shared = sum(taken.get(gpu.name, 0) for gpu in machine.gpus if machine.is_unified(gpu))
    ram = machine.ram
    available = max(0, ram.available_bytes - plan.host.total_bytes - shared)
    gpus = tuple(
        replace(gpu, free_bytes=max(0, gpu.free_bytes - taken.get(gpu.name, 0)))
        for gpu in machine.gpus
    )
    return replace(machine, ram=replace(ram, available_bytes=available), gpus=gpus)


def drafting_for(
    model: llama.Model,
    plan: OffloadPlan,
    draft: PlannedDraft | None,
    interrupt: Interrupt,
    *,
    lookup: bool,
) -> Drafting:
    """What drafts for ``model``, a draft loaded. Raises DoesNotFit, Interrupted."""
    if draft is None and not lookup:
        return Drafting.off()
    # Whoever asks for a draft is told where there can be none; of what comes by itself, nobody.
    tell = partial(log.debug if draft is None else log.warning, "%s")
    widths = Widths(on_cpu=not plan.gpus, can_truncate=not model.keeps_state, tell=tell)
    steering = Steering(Controller(GPU_ROW_COST if plan.gpus else CPU_ROW_COST), widths)
    loaded = None if draft is None else _load_draft(draft, interrupt)
    return Drafting(steering, lookup=lookup, model=loaded)


def _load_draft(planned: PlannedDraft, interrupt: Interrupt) -> DraftModel:
    settled = planned.settled

    def progress(_: float) -> bool:
        return not interrupt.is_set()

    model = llama.Model(settled.path, load_options(settled.plan), progress)
    n_threads = settled.site.n_threads
    cache = KVCache(
        model,
        context_options(settled.plan, n_threads, 0),
        interrupt.is_set,
        partial(check_growth, settled),
    )
    try:
        return DraftModel(cache, model.n_vocab, on_close=model.close)
    except BaseException:
        cache.close()
        model.close()
        raise


def prefixes_for(
    model: llama.Model, file: ModelFile, header: GGUFHeader, settled: Settled, bound_bytes: int
) -> Prefixes:
    """The prompts that were evaluated before, on this disk, where they may take ``bound_bytes``."""
    if not bound_bytes:
        return NoPrefixes()

    def setting_at(n_ctx: int) -> Setting | None:
        return setting_of(
            file,
            header,
            settled.plan,
            gpus=settled.site.machine.gpus,
            n_ctx=n_ctx,
            n_threads=settled.plan.n_threads or settled.site.n_threads,
            build=llama.build_info(),
            can_cut=not model.keeps_state and not model.n_swa,
        )

    return KeptPrefixes(PrefixCache(default_folder(), bound_bytes), setting_at)


def without_draft(refusal: DoesNotFit) -> str:
    """The line that says so."""
    return f"no memory for the draft beside the model, so it goes without ({refusal})"
