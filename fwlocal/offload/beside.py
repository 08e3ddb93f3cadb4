"""A draft beside the model that it drafts for: it is placed first, since each of its tokens must be
cheap, and the model in what it leaves. Pure."""

from __future__ import annotations

from dataclasses import replace

from fwlocal.errors import DoesNotFit
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Machine, listing_order
from fwlocal.offload.plan import OffloadPlan, Request
from fwlocal.offload.planner import free_bytes

GPU_SPEED = 10.0  # a layer on a GPU is at least so many times as fast as on the CPU
# Drafts seldom make it faster than so many times where some layers are on the CPU, which takes
# longer for several tokens at once.
MOST_BROUGHT = 1.5


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


def may_pay(alone: OffloadPlan, plan: OffloadPlan) -> bool:
    """Whether drafts can make up for the layers that leave the GPUs for the draft: ``plan`` is the
    model's beside it, ``alone`` the one without."""
    return _n_slow_layers(plan) <= MOST_BROUGHT * _n_slow_layers(alone)


def _n_slow_layers(plan: OffloadPlan) -> float:
    """What a token takes, in layers on the CPU."""
    return plan.n_layers - plan.n_gpu_layers + plan.n_gpu_layers / GPU_SPEED


def without_draft(refusal: DoesNotFit) -> str:
    """The line that says that there is no memory for both."""
    return f"no memory for the draft beside the model, so it goes without ({refusal})"


def in_place_of_layers(alone: OffloadPlan, plan: OffloadPlan, *, is_asked: bool) -> str:
    """The line that says that a draft takes more than it brings."""
    n_layers = alone.n_gpu_layers - plan.n_gpu_layers
    if is_asked:
        return f"the draft is in the place of {n_layers} layers on GPUs; --draft off may be faster"
    return f"the draft would be in the place of {n_layers} layers on GPUs, so it goes without"


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
