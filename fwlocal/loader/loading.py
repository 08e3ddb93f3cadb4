"""From a checked file to an engine: planned, tried if it is risky, here or in its own process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast

from fwlocal import hardware, llama
from fwlocal.audit import Audit
from fwlocal.errors import DoesNotFit
from fwlocal.formats import choose_format
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.library import Library
from fwlocal.loader.ahead import DraftFile, find_draft, plan_with_draft, without_draft
from fwlocal.loader.here import Job, LoadedModel, load_planned
from fwlocal.loader.isolation import IsolatedEngine
from fwlocal.loader.opening import open_file, silent
from fwlocal.loader.options import EngineOptions, request_of
from fwlocal.loader.planning import (
    Settled,
    Site,
    is_risky,
    look_around,
    missing_worker,
    settle,
    try_out,
    with_less,
)
from fwlocal.offload import summary
from fwlocal.store import ModelFile
from fwlocal.store.usage import note_use

log = logging.getLogger(__name__)


def open_model(
    model: str,
    options: EngineOptions | None = None,
    library: Library | None = None,
    *,
    draft: str = "auto",
) -> LoadedModel:
    """Find, fetch if need be, and load ``model``: a registry name, ``NAME:LEVEL`` or a path; and
    what ``draft`` means to ``find_draft``."""
    library = library or Library.default()
    file, header = open_file(model, library)
    found = find_draft(draft, file, header, library)
    return load(file, header, options or EngineOptions(), draft=found)


def load(
    file: ModelFile,
    header: GGUFHeader,
    options: EngineOptions,
    *,
    notify: Callable[[str], None] = silent,
    on_progress: Callable[[float], None] = lambda fraction: None,
    interrupt: Interrupt | None = None,
    verbose: bool = False,
    draft: DraftFile | None = None,
) -> LoadedModel:
    """Load a file whose header was checked, its layers where the plan puts them; with a ``draft``
    beside it, where both fit.

    With workers the engine is in a process of its own, which a lost worker may take along. Where a
    device refuses what was planned, the load is repeated with fewer layers. ``notify`` gets lines
    for the user, ``on_progress`` the fraction loaded. Raises the errors of ``fwlocal.errors``;
    Interrupted when ``interrupt`` is set while loading.
    """
    interrupt = interrupt or Interrupt()
    if not options.raw:
        choose_format(file, header, options.prompt_format)
    request = request_of(options, header)
    site = look_around(options.workers, options.n_threads)

    def plan(there: Site) -> Settled:
        return settle(file.path, header, there, request, interrupt)

    planned = None
    try:
        if draft is None:
            settled = plan(site)
        else:
            planned, settled = plan_with_draft(draft, header, site, request, plan, interrupt)
    except DoesNotFit as refusal:
        if draft is None:
            raise
        settled = plan(site)
        notify(without_draft(refusal))
    for line in _unheeded(options, settled):
        notify(line)
    load_it = _load_isolated if options.workers else _load_here
    job = Job(file, options, settled, verbose, planned)
    loaded = load_it(job, header, notify, on_progress, interrupt)
    for remark in loaded.remarks:
        notify(remark)
    note_use(file)
    return loaded


def _load_here(
    job: Job,
    header: GGUFHeader,
    notify: Callable[[str], None],
    on_progress: Callable[[float], None],
    interrupt: Interrupt,
) -> LoadedModel:
    """Load in this process; again with less where a GPU refuses."""
    while True:
        try:
            if is_risky(job.settled):
                try_out(job.settled, interrupt)
            return load_planned(job, header, on_progress, interrupt)
        except DoesNotFit as refusal:
            if job.draft is not None:
                notify(without_draft(refusal))
                job = replace(job, draft=None)
                continue
            settled, line = with_less(job.settled, refusal, header, interrupt)
            notify(line)
            job = replace(job, settled=settled)


def _load_isolated(
    job: Job,
    header: GGUFHeader,
    notify: Callable[[str], None],
    on_progress: Callable[[float], None],
    interrupt: Interrupt,
) -> LoadedModel:
    """Load in a process of its own; again with less where a GPU refuses, and after a loss by a plan
    for what is there then, without telling how far it is: whoever listened is gone."""
    is_loaded = False

    def start() -> Job:
        nonlocal job
        if is_loaded:
            site = look_around(job.options.workers, job.options.n_threads)
            again = settle(job.file.path, header, site, job.settled.request, interrupt)
            if again.plan.gpus != job.settled.plan.gpus:
                log.warning("%s", summary(again.plan))
            job = replace(job, settled=again)
        return job

    def start_with_less(refusal: DoesNotFit) -> Job:
        nonlocal job
        if job.draft is not None:
            line = without_draft(refusal)
            log.warning("%s", line) if is_loaded else notify(line)
            job = replace(job, draft=None)
            return job
        settled, line = with_less(job.settled, refusal, header, interrupt)
        log.warning("%s", line) if is_loaded else notify(line)
        job = replace(job, settled=settled)
        return job

    def progress(fraction: float) -> None:
        if not is_loaded:
            on_progress(fraction)

    engine = IsolatedEngine(
        start,
        on_refusal=start_with_less,
        on_progress=progress,
        interrupt=interrupt,
        verbose=job.verbose,
        who_is_lost=partial(missing_worker, job.settled.site.workers),
    )
    is_loaded = True
    prompt_format = (
        None if job.options.raw else choose_format(job.file, header, job.options.prompt_format)
    )
    audit, remarks = cast("tuple[Audit | None, tuple[str, ...]]", engine.extra)
    plan = job.settled.plan
    return LoadedModel(engine, job.file, header, prompt_format, plan, audit, remarks)


def _unheeded(options: EngineOptions, settled: Settled) -> Iterator[str]:
    """What was asked for and cannot be done."""
    if options.n_gpu_layers and not settled.site.machine.gpus:
        yield "llama.cpp sees no GPU here, so --n-gpu-layers does nothing; see `fwlocal doctor`"
    if options.gpu_memory and not settled.site.machine.gpus:
        yield "llama.cpp sees no GPU here, so --gpu-memory does nothing; see `fwlocal doctor`"
    used = {share.device for share in settled.plan.gpus}
    for device in settled.site.machine.gpus:
        if device.backend == "RPC" and device.name not in used and options.n_gpu_layers != 0:
            yield (
                f"worker {device.description} gets no layers: the others hold them, or too little "
                "of its memory may be used (--gpu-memory, --gpu-margin)"
            )
    for device in hardware.memoryless(llama.devices()):
        yield f"{device.name} tells no memory, so nothing is put on it"
