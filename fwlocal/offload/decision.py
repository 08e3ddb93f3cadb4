"""The plan that is taken, with its reason and what would be better; or why there is none."""

from __future__ import annotations

from dataclasses import replace

from fwlocal.errors import DoesNotFit
from fwlocal.hardware import Machine
from fwlocal.offload.advice import advice, refusal
from fwlocal.offload.compute import Measured
from fwlocal.offload.context import rounded_n_ctx
from fwlocal.offload.footprint import Footprint
from fwlocal.offload.plan import OffloadPlan, Request
from fwlocal.offload.planner import Planner
from fwlocal.offload.wording import reason

SCORES_BYTES = 256 << 20
SCORES_PART = 0.1  # of the weights
HUGE_PAGES = ("always", "madvise")  # where they are given to all, or to who asks
COPY_PART = 0.5  # of the free RAM, which a copy of the weights in it may take


def make_plan(
    model: Footprint, machine: Machine, request: Request, measured: Measured | None = None
) -> OffloadPlan:
    """The plan for a model on a machine. ``measured`` are compute buffers known to be so.

    Raises DoesNotFit, saying what would, for a model that even the CPU cannot hold, and for a
    number of layers asked for that the GPUs cannot; UsageError for caps that match no GPUs.
    """
    planner = Planner(model, machine, request, measured or {})
    n_ctx = rounded_n_ctx(request.n_ctx)
    plan = planner.best(n_ctx) or (planner.shrunk(n_ctx) if request.shrink_context else None)
    if plan is None:
        raise DoesNotFit(refusal(planner, n_ctx))
    plan = _in_huge_pages(planner, _on_cpu(planner, plan))
    why = reason(plan, request.n_gpu_layers, is_shrunk=plan.n_ctx < n_ctx)
    return replace(plan, reason=why, advice=tuple(advice(planner, plan)))


def _on_cpu(planner: Planner, plan: OffloadPlan) -> OffloadPlan:
    """The plan; on a CPU alone, where nobody asks for it, without flash attention. llama.cpp's
    kernel for it is slower there than plain attention, the more so the longer the context; but that
    keeps a micro-batch's scores, which must take little memory beside the weights. A brief text has
    it: there it is as fast, and it alone computes several tokens to the bit as one by one, so that
    drafts can be used."""
    if plan.flash_attn != "auto" or plan.kv_type != "f16" or planner.machine.gpus:
        return plan
    if planner.request.brief:
        return replace(plan, flash_attn="on")
    without = planner.asking(flash_attn="off").best(plan.n_ctx)
    if without is None:
        return plan
    more = without.host.compute_bytes - plan.host.compute_bytes
    return without if more <= max(SCORES_BYTES, SCORES_PART * plan.host.weights_bytes) else plan


def _in_huge_pages(planner: Planner, plan: OffloadPlan) -> OffloadPlan:
    """The plan; on a CPU alone, where nobody asks for it and the system has huge pages, with the
    weights copied into them: decoding is faster by 6 to 14 %, and reading them in takes as long as
    that saves in some fifty tokens. A map of the file needs no memory of its own, so that the copy
    must leave much free."""
    machine = planner.machine
    if planner.request.mmap is not None or machine.gpus or machine.huge_pages not in HUGE_PAGES:
        return plan
    fits = plan.host.weights_bytes <= COPY_PART * machine.ram.available_bytes
    return replace(plan, mmap=not fits)
