"""From a checked file to an engine: planned, tried if it is risky, here or in its own process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from fwlocal import hardware, llama
from fwlocal.audit import Audit
from fwlocal.errors import DoesNotFit
from fwlocal.formats import choose_format
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.library import Library
from fwlocal.loader.ahead import (
    DraftFile,
    PlannedDraft,
    find_draft,
    plan_with_draft,
)
from fwlocal.loader.here import Job, LoadedModel, load_planned
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
from fwlocal.offload import (
    Request,
    footprint,
    in_place_of_layers,
    make_plan,
    may_pay,
    summary,
    without_draft,
)
from fwlocal.store import ModelFile
from fwlocal.store.usage import note_use

log = logging.getLogger(__name__)


def open_model(
    model: str,
    options: EngineOptions | None = None,
    library: Library | None = None,
    *,
    draft: str | None = "auto",
) -> LoadedModel:
    """Find, fetch if need be, and load ``model``: a registry name, ``NAME:LEVEL`` or a path; and
    what ``draft`` means to ``find_draft``, None as "off"."""
    library = library or Library.default()
    file, header = open_file(model, library)
    found = find_draft("off" if draft is None else draft, file, header, library)
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
    asked = _Asked(file, header, request_of(options, header), interrupt)
    planned, settled = asked.planned(look_around(options.workers, options.n_threads), draft, notify)
    for line in _unheeded(options, settled):
        notify(line)
    load_it = _load_isolated if options.workers else _load_here
    job = Job(file, options, settled, verbose, planned)
    loaded = load_it(job, asked, notify, on_progress)
    for remark in loaded.remarks:
        notify(remark)
    note_use(file)
    return loaded


@dataclass(frozen=True)
class _Asked:
    """What is to be loaded; plans are made of it, and made anew."""

    file: ModelFile
    header: GGUFHeader
    request: Request
    interrupt: Interrupt

    def planned(
        self, site: Site, draft: DraftFile | None, notify: Callable[[str], None]
    ) -> tuple[PlannedDraft | None, Settled]:
        """The places of the draft and of the model; without the draft, which ``notify`` is told,
        where there is no memory for both, or it would take more than it can bring."""
        if draft is None:
            return None, self._settled(site, self.request)
        try:
            planned, settled = plan_with_draft(
                draft, self.header, site, self.request, self._settled, self.interrupt
            )
        except DoesNotFit as refusal:
            settled = self._settled(site, self.request)
            notify(without_draft(refusal))
            return None, settled
        alone = make_plan(footprint(self.header), site.machine, self.request)
        if not may_pay(alone, settled.plan):
            notify(in_place_of_layers(alone, settled.plan, is_asked=draft.is_asked))
            if not draft.is_asked:
                return None, self._settled(site, self.request)
        return planned, settled

    def with_less(self, job: Job, refusal: DoesNotFit) -> tuple[Job, str]:
        """The job with less of it on GPUs, the draft first, and a line for the user."""
        options = job.options
        if job.draft is None:
            settled, line = with_less(job.settled, refusal, self.header, self.interrupt)
            return replace(job, settled=settled), line
        site = look_around(options.workers, options.n_threads)
        settled = self._settled(site, self.request)
        return replace(job, settled=settled, draft=None), without_draft(refusal)

    def _settled(self, site: Site, request: Request) -> Settled:
        return settle(self.file.path, self.header, site, request, self.interrupt)


def _load_here(
    job: Job,
    asked: _Asked,
    notify: Callable[[str], None],
    on_progress: Callable[[float], None],
) -> LoadedModel:
    """Load in this process; again with less where a GPU refuses."""
    while True:
        try:
            if is_risky(job.settled):
                try_out(job.settled, asked.interrupt)
            return load_planned(job, asked.header, on_progress, asked.interrupt)
        except DoesNotFit as refusal:
            job, line = asked.with_less(job, refusal)
            notify(line)


def _load_isolated(
    job: Job,
    asked: _Asked,
    notify: Callable[[str], None],
    on_progress: Callable[[float], None],
) -> LoadedModel:
    """Load in a process of its own; again with less where a GPU refuses, and after a loss by a plan
    for what is there then, without telling how far it is: whoever listened is gone."""
    from fwlocal.loader.isolation import IsolatedEngine  # with workers alone

    is_loaded = False

    def tell(line: str) -> None:
        log.warning("%s", line) if is_loaded else notify(line)

    def start() -> Job:
        nonlocal job
        if is_loaded:
            site = look_around(job.options.workers, job.options.n_threads)
            draft = job.draft.draft if job.draft is not None else None
            planned, again = asked.planned(site, draft, tell)
            if again.plan.gpus != job.settled.plan.gpus:
                log.warning("%s", summary(again.plan))
            job = replace(job, settled=again, draft=planned)
        return job

    def start_with_less(refusal: DoesNotFit) -> Job:
        nonlocal job
        job, line = asked.with_less(job, refusal)
        tell(line)
        return job

    def progress(fraction: float) -> None:
        if not is_loaded:
            on_progress(fraction)

    engine = IsolatedEngine(
        start,
        on_refusal=start_with_less,
        on_progress=progress,
        interrupt=asked.interrupt,
        verbose=job.verbose,
        who_is_lost=partial(missing_worker, job.settled.site.workers),
    )
    is_loaded = True
    prompt_format = (
        None
        if job.options.raw
        else choose_format(job.file, asked.header, job.options.prompt_format)
    )
    audit, remarks = cast("tuple[Audit | None, tuple[str, ...]]", engine.extra)
    plan = job.settled.plan
    return LoadedModel(
        engine, job.file, asked.header, prompt_format, plan, audit, remarks, draft=job.draft
    )


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
