"""Loading what has been planned, in this process: weights, KV cache, prompt format, engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from fwlocal import llama
from fwlocal.audit import Audit
from fwlocal.chat_template import template_format
from fwlocal.encoding import spells_control
from fwlocal.engine import Engine, EngineLike
from fwlocal.errors import FwlocalError, Interrupted, RegistryError, UsageError
from fwlocal.formats import choose_format
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.kv_cache import KVCache
from fwlocal.llama.numa import use_numa
from fwlocal.loader.ahead import PlannedDraft, drafting_for, prefixes_for
from fwlocal.loader.auditor import Auditor
from fwlocal.loader.native_plan import context_options, load_options
from fwlocal.loader.options import EngineOptions
from fwlocal.loader.planning import Settled, check_growth
from fwlocal.offload import OffloadPlan
from fwlocal.prompts import FORMATS, GGUF_FORMAT, Render
from fwlocal.registry import ModelSpec
from fwlocal.sampling import SamplingParams
from fwlocal.store import ModelFile

NOT_LOCKED = "the model could not be locked in RAM; raise the limit (ulimit -l)"


@dataclass(frozen=True)
class Job:
    """What is to be loaded, and how, for this process or another one."""

    file: ModelFile
    options: EngineOptions
    settled: Settled
    verbose: bool = False
    draft: PlannedDraft | None = None


@dataclass(frozen=True)
class LoadedModel:
    """An engine and where it came from; ``prompt_format`` None for raw prompts. ``audit`` is what
    the load took, where its context is made at once: with layers on a GPU. ``remarks`` are what
    was asked for and could not be done. Prompts may be kept in ``prefix_bytes`` of the disk;
    ``draft`` is the model that drafts, if one does."""

    engine: EngineLike
    file: ModelFile
    header: GGUFHeader
    prompt_format: str | None
    plan: OffloadPlan
    audit: Audit | None = None
    remarks: tuple[str, ...] = ()
    prefix_bytes: int = 0
    draft: PlannedDraft | None = None


def load_planned(
    job: Job,
    header: GGUFHeader,
    on_progress: Callable[[float], None],
    interrupt: Interrupt,
) -> LoadedModel:
    """Load in this process what has been planned. The context of a model with layers on a GPU is
    made at once, so that nothing is refused later."""
    with contextlib.ExitStack() as opened:
        loaded = _load(job, header, on_progress, interrupt, opened)
        opened.pop_all()
    return loaded


def _load(
    job: Job,
    header: GGUFHeader,
    on_progress: Callable[[float], None],
    interrupt: Interrupt,
    opened: contextlib.ExitStack,
) -> LoadedModel:
    """The same; ``opened`` frees what there is already where a later step fails."""
    file, options, settled = job.file, job.options, job.settled
    plan = settled.plan
    prompt_format = None if options.raw else choose_format(file, header, options.prompt_format)
    sampling = default_sampling(file.spec)
    started = time.perf_counter()
    native = load_weights(file.path, settled, on_progress, interrupt)
    opened.callback(native.close)
    auditor = Auditor(settled, native, verbose=job.verbose)
    cache = _cache_for(native, job, auditor, interrupt)
    opened.callback(cache.close)
    if plan.gpus:
        cache.open()
    lookup, lossless = options.lookup, options.lossless
    drafting = drafting_for(
        native, header, settled, job.draft, interrupt, lookup=lookup, lossless=lossless
    )
    opened.callback(drafting.close)
    known = FORMATS.get(prompt_format or "")
    engine = Engine(
        native,
        cache,
        render=renderer(prompt_format, header, native),
        stop=known.stop if known else (),
        system=file.spec.system if file.spec and known else None,
        sampling=sampling,
        max_tokens=file.spec.max_tokens if file.spec else None,
        interrupt=interrupt,
        load_s=time.perf_counter() - started,
        drafting=drafting,
        prefixes=prefixes_for(native, file, header, settled, options.prefix_bytes),
    )
    unlocked = plan.mlock and any("mlock" in line for line in native.warnings)
    remarks = (NOT_LOCKED,) if unlocked else ()
    return LoadedModel(
        engine,
        file,
        header,
        prompt_format,
        plan,
        auditor.audit,
        remarks,
        options.prefix_bytes,
        job.draft if drafting.has_model else None,
    )


def _cache_for(native: llama.Model, job: Job, auditor: Auditor, interrupt: Interrupt) -> KVCache:
    """An empty one. A context whose size nobody named may grow, unless there was no room for it
    even now."""
    settled = job.settled
    may_grow = job.options.n_ctx is None and settled.plan.n_ctx >= settled.request.n_ctx
    n_ctx = 0 if may_grow else settled.plan.n_ctx
    return KVCache(
        native,
        context_options(settled.plan, settled.site.n_threads, n_ctx),
        interrupt.is_set,
        partial(check_growth, settled),
        auditor.note,
    )


def load_weights(
    path: Path,
    settled: Settled,
    on_progress: Callable[[float], None],
    interrupt: Interrupt,
) -> llama.Model:
    """The weights where the plan puts them. Raises Interrupted when ``interrupt`` is set."""

    def progress(fraction: float) -> bool:
        on_progress(fraction)
        return not interrupt.is_set()

    try:
        use_numa(settled.plan.numa)
        return llama.Model(path, load_options(settled.plan), progress)
    except FwlocalError:
        if interrupt.is_set():
            raise Interrupted(exit_code=interrupt.exit_code) from None
        raise


def renderer(prompt_format: str | None, header: GGUFHeader, model: llama.Model) -> Render:
    """The function that renders messages in ``prompt_format``."""
    if prompt_format is None:
        return _no_format
    if prompt_format != GGUF_FORMAT:
        return FORMATS[prompt_format].render
    bos, eos = (model.spelling(t) if t >= 0 else "" for t in (model.bos, model.eos))
    template = header.text("tokenizer.chat_template") or ""
    return template_format(
        llama.template_renderer(template, bos=bos, eos=eos),
        lambda text: spells_control(model, text),
    )


def _no_format(messages: object) -> NoReturn:
    raise UsageError("the model was loaded for raw prompts; it has no prompt format")


def default_sampling(spec: ModelSpec | None) -> SamplingParams:
    """What models.toml recommends, over llama.cpp's defaults."""
    if spec is None:
        return SamplingParams()
    try:
        return SamplingParams().updated(vars(spec.sampling))
    except UsageError as error:
        raise RegistryError(f"models.toml: {spec.name}.sampling: {error}") from error
