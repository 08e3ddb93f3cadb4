"""A draft beside the model that it drafts for: it is placed first, since each of its tokens must be
cheap, and the model in what it leaves. Pure."""

from __future__ import annotations

from dataclasses import replace

from fwlocal.errors import DoesNotFit
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Machine, listing_order
from fwlocal.offload.plan import OffloadPlan, Request
from fwlocal.offload.planner import free_bytes


def request_for_draft(request: Request, draft: GGUFHeader) -> Request:
    """For as many tokens as the model's ``request``, or as the draft knows. A number of layers is
    the model's own; none are none of the draft's either."""
    trained = draft.number("{arch}.context_length") or request.n_ctx
    return replace(
        request,
        n_ctx=min(request.n_ctx, trained),
        n_gpu_layers=0 if request.n_gpu_layers == 0 else None,
    )


def beside(machine: Machine, request: Request, draft: OffloadPlan) -> tuple[Machine, Request]:
    """What is left of both for the model."""
    return _less(machine, draft), replace(request, gpu_memory=_caps_left(machine, request, draft))


def without_draft(refusal: DoesNotFit) -> str:
    """The line that says so."""
    return f"no memory for the draft beside the model, so it goes without ({refusal})"


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


def _caps_left(machine: Machine, request: Request, plan: OffloadPlan) -> tuple[int, ...] | None:
    """What a plan leaves of the caps that were asked for, of each GPU as they are listed."""
    if not request.gpu_memory or not machine.gpus:
        return request.gpu_memory
    free = free_bytes(machine, request)
    taken = {share.device: share.total_bytes for share in plan.gpus}
    return tuple(max(0, free[n] - taken.get(n, 0)) for n in sorted(free, key=listing_order))
