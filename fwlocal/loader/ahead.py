"""What saves an engine work: a smaller model that drafts for it, the text itself, and prompts that
were evaluated before.

A draft is planned first (``fwlocal.offload.beside``). Where there is no memory for both, the model
goes without.
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
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.kv_cache import KVCache
from fwlocal.library import Library
from fwlocal.llama.build import build_id
from fwlocal.loader.exact_rows import ExactRows
from fwlocal.loader.native_plan import context_options, load_options
from fwlocal.loader.opening import open_file, silent
from fwlocal.loader.planning import Settled, Site, check_growth, settle
from fwlocal.offload import Request, beside, request_for_draft
from fwlocal.prefix_cache import (
    KeptPrefixes,
    NoPrefixes,
    PrefixCache,
    Prefixes,
    Setting,
    default_folder,
    setting_of,
)
from fwlocal.store import ModelFile, locate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DraftFile:
    """A model that is to draft; its header was checked. Without one that nobody asked for, it goes
    on."""

    file: ModelFile
    header: GGUFHeader
    is_asked: bool = True


def find_draft(
    named: str,
    file: ModelFile,
    header: GGUFHeader,
    library: Library,
    notify: Callable[[str], None] = silent,
) -> DraftFile | None:
    """The model that ``named`` means: "off" is none, "auto" the one that models.toml names for this
    model, if it is on this disk and can draft.

    Raises, for a name, what ``open_file`` does, and UsageError where it cannot draft.
    """
    if named == "auto":
        return _known_draft(file, header, library)
    if named == "off":
        return None
    draft = DraftFile(*open_file(named, library, notify))
    check_draft(header, draft.header)
    return draft


def _known_draft(file: ModelFile, header: GGUFHeader, library: Library) -> DraftFile | None:
    name = file.spec.draft if file.spec is not None else None
    if name is None:
        return None
    try:
        if not locate(name, library.registry, library.store).path.exists():
            return None  # it is not fetched for this
        draft = DraftFile(*open_file(name, library), is_asked=False)
        check_draft(header, draft.header)
    except FwlocalError:
        return None
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
    plan: Callable[[Site, Request], Settled],
    interrupt: Interrupt,
) -> tuple[PlannedDraft, Settled]:
    """The draft's place for as many tokens as the model has, and the model's, by ``plan``, in what
    the draft leaves of ``site``.

    Raises UsageError for a model that cannot draft for this one, DoesNotFit where there is no
    memory for both.
    """
    check_draft(header, draft.header)
    own = request_for_draft(request, draft.header)
    placed = settle(draft.file.path, draft.header, site, own, interrupt)
    machine, left = beside(site.machine, request, placed.plan)
    return PlannedDraft(draft, placed), plan(replace(site, machine=machine), left)


def drafting_for(
    model: llama.Model,
    header: GGUFHeader,
    settled: Settled,
    draft: PlannedDraft | None,
    interrupt: Interrupt,
    *,
    lookup: bool,
    lossless: bool | None,
) -> Drafting:
    """What drafts for ``model``, a draft loaded; None is ``lossless`` on the CPU alone. Raises
    DoesNotFit, Interrupted."""
    if draft is None and not lookup:
        return Drafting.off()
    plan = settled.plan
    lossless = not plan.gpus if lossless is None else lossless
    rows = ExactRows(header, plan, context_options(plan, settled.site.n_threads))
    # Whoever asks for a draft is told where there can be none; of what comes by itself, nobody.
    tell = partial(log.debug if draft is None else log.warning, "%s")
    known, costs = rows.recall()
    widths = Widths(lossless=lossless, can_truncate=not model.keeps_state, known=known, tell=tell)
    row_cost = GPU_ROW_COST if plan.gpus else CPU_ROW_COST
    steering = Steering(Controller(row_cost, costs), widths)
    if widths.never:
        return Drafting.off()
    loaded = None if draft is None else _load_draft(draft, model.n_vocab, interrupt)
    return Drafting(steering, lookup=lookup, model=loaded, costs=costs, learned=rows.keep)


def _load_draft(planned: PlannedDraft, n_vocab: int, interrupt: Interrupt) -> DraftModel | None:
    """The draft for a model of ``n_vocab`` tokens; None where llama.cpp refuses one that nobody
    asked for. Raises FwlocalError, DoesNotFit."""
    settled = planned.settled

    def progress(_: float) -> bool:
        return not interrupt.is_set()

    try:
        model = llama.Model(settled.path, load_options(settled.plan), progress)
    except DoesNotFit:
        raise
    except FwlocalError as error:
        if interrupt.is_set():
            raise Interrupted(exit_code=interrupt.exit_code) from None
        if planned.draft.is_asked:
            raise
        log.warning("the draft cannot be loaded, so it goes without (%s)", error)
        return None
    n_threads = settled.site.n_threads
    cache = KVCache(
        model,
        context_options(settled.plan, n_threads, 0),
        interrupt.is_set,
        partial(check_growth, settled),
    )
    try:
        # One may have a few tokens of padding more than the other.
        return DraftModel(cache, min(model.n_vocab, n_vocab), on_close=model.close)
    except BaseException:
        cache.close()
        model.close()
        raise


def prefixes_for(
    model: llama.Model, file: ModelFile, header: GGUFHeader, settled: Settled, bound_bytes: int
) -> Prefixes:
    """The prompts that were evaluated before, on this disk, where they may take ``bound_bytes``.

    None where a state might give another answer: of a sliding window llama.cpp keeps the visible
    part alone, at another place, which rounds otherwise; and what a worker is, may change.
    """
    if not bound_bytes or model.n_swa or settled.site.workers:
        return NoPrefixes()
    context = context_options(settled.plan, settled.site.n_threads)

    def setting_at(n_ctx: int) -> Setting | None:
        return setting_of(
            file,
            header,
            settled.plan,
            gpus=settled.site.machine.gpus,
            n_ctx=n_ctx,
            n_threads=context.n_threads,
            n_threads_batch=context.n_threads_batch or context.n_threads,
            build=build_id(),
            can_cut=not model.keeps_state,
        )

    return KeptPrefixes(PrefixCache(default_folder(), bound_bytes), setting_at)
