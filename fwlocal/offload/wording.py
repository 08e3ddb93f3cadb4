"""A plan in sentences: why it is so, what would be better, what would fit at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fwlocal.levels import LADDER
from fwlocal.offload.footprint import Footprint
from fwlocal.offload.placement import Room
from fwlocal.offload.plan import OffloadPlan, Share
from fwlocal.sizes import gib


def layers_of(plan: OffloadPlan) -> str:
    """ "all 81 layers", or "33 of 81 layers"."""
    if plan.n_gpu_layers == plan.n_layers:
        return f"all {plan.n_layers} layers"
    return f"{plan.n_gpu_layers} of {plan.n_layers} layers"


def reason(plan: OffloadPlan, asked: int | None, *, is_shrunk: bool) -> str:
    """Why the plan is so, in a sentence."""
    return "".join(
        (
            _where(plan, asked),
            f", with the KV cache in {plan.kv_type}" if plan.kv_type != "f16" else "",
            f", with a context of {plan.n_ctx} tokens, all that fits" if is_shrunk else "",
        )
    )


def _where(plan: OffloadPlan, asked: int | None) -> str:
    devices = " and ".join(share.device for share in plan.gpus)
    if not plan.gpus:
        return "all layers are on the CPU"
    if asked is not None:
        return f"{layers_of(plan)} on {devices}, as asked"
    if plan.n_gpu_layers == plan.n_layers:
        split = ", split by their free memory" if len(plan.gpus) > 1 else ""
        return f"{layers_of(plan)} fit on {devices}{split}"
    budget = sum(share.budget_bytes for share in plan.gpus)
    return f"{layers_of(plan)} fit in {gib(budget)} of {devices}, the rest is on the CPU"


def summary(plan: OffloadPlan) -> str:
    """The plan in one line, for the beginning of a chat."""
    shares = [
        f"{share.n_layers} on {share.device} ({gib(share.total_bytes)})"
        for share in plan.shares
        if share.n_layers
    ]
    return f"layers: {', '.join(shares)}; context {plan.n_ctx}, KV cache {plan.kv_type}"


def with_option(option: str, plan: OffloadPlan) -> str:
    """What an option would give."""
    verb = "fits" if plan.n_gpu_layers == 1 else "fit"
    return f"with {option} {layers_of(plan)} {verb}"


def with_more_memory(lacking_bytes: int, device: str) -> str:
    """What is lacking."""
    return f"with {gib(lacking_bytes)} more on {device} all layers fit"


def with_smaller_level(model: Footprint, free_bytes: int) -> Iterator[str]:
    """The largest level whose weights the GPUs could hold, if this one's they cannot."""
    fitting = _fitting_level(model, free_bytes, 0)
    if fitting:
        yield f"at {fitting} (about {gib(_level_bytes(model, fitting))}) all layers may fit"


def too_many_layers(
    model: Footprint, asked: int, rooms: Sequence[Room], fitting: OffloadPlan
) -> str:
    """More layers were asked for than the GPUs hold."""
    free = ", ".join(f"{gib(room.size_bytes)} on {room.device}" for room in rooms)
    return (
        f"{asked} layers of {model.name} do not fit on the GPU ({free} free); "
        f"{fitting.n_gpu_layers} do: leave --n-gpu-layers out, or give a smaller number"
    )


def refusal(
    model: Footprint, host: Share, n_ctx: int, *, free_bytes: int, fitting_n_ctx: int | None
) -> str:
    """Nothing on this machine holds the model; what would fit."""
    fitting = _fitting_level(model, free_bytes, host.kv_bytes + host.compute_bytes)
    offers = [
        f"--n-ctx {fitting_n_ctx}" if fitting_n_ctx else "",
        f"{fitting} (about {gib(_level_bytes(model, fitting))})" if fitting else "",
    ]
    would = " or ".join(filter(None, offers)) or "only a smaller model"
    return (
        f"{model.name} needs {gib(host.total_bytes)} ({gib(host.weights_bytes)} weights, "
        f"{gib(host.kv_bytes)} KV cache for {n_ctx} tokens), {gib(free_bytes)} are free; "
        f"{would} would fit"
    )


def _fitting_level(model: Footprint, free_bytes: int, beside_bytes: int) -> str | None:
    """The best level smaller than this file that fits."""
    for level in LADDER:
        size = _level_bytes(model, level)
        if size < 0.95 * model.weights_bytes and size + beside_bytes <= free_bytes:
            return level
    return None


def _level_bytes(model: Footprint, level: str) -> int:
    return round(model.n_params * LADDER[level] / 8)
