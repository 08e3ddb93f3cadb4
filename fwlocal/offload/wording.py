"""A plan in sentences: why it is so, what would be better, what would fit at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fwlocal.hardware import listing_order
from fwlocal.offload.plan import OffloadPlan
from fwlocal.sizes import gib

MANY = 4  # GPUs, which are counted and not named


def named(devices: Sequence[str]) -> str:
    """The GPUs in a sentence."""
    names = sorted(devices, key=listing_order)
    return " and ".join(names) if len(names) < MANY else f"{len(names)} GPUs"


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
    devices = named([share.device for share in plan.gpus])
    if not plan.gpus:
        return "all layers are on the CPU"
    if asked is not None:
        return f"{layers_of(plan)} on {devices}, as asked"
    if plan.n_gpu_layers == plan.n_layers:
        split = ", split by their free memory" if len(plan.gpus) > 1 else ""
        return f"{layers_of(plan)} fit on {devices}{split}"
    budget = sum(share.budget_bytes for share in plan.gpus)
    return f"{layers_of(plan)} fit in {gib(budget)} of {devices}, the rest is on the CPU"


def summary(plan: OffloadPlan, limit: int = 0) -> str:
    """The plan in one line, for the beginning of a chat; the context grows up to ``limit``."""
    grows = f" (grows to {limit})" if limit > plan.n_ctx else ""
    sizes = {share.device: f" ({gib(share.total_bytes)})" for share in plan.shares}
    return f"{where_layers_are(plan, sizes)}; context {plan.n_ctx}{grows}, KV cache {plan.kv_type}"


def where_layers_are(plan: OffloadPlan, remarks: Mapping[str, str] | None = None) -> str:
    """How many layers each device has, with a remark on it."""
    shares = [
        f"{share.n_layers} on {share.device}{(remarks or {}).get(share.device, '')}"
        for share in sorted(plan.shares, key=lambda share: listing_order(share.device))
        if share.n_layers
    ]
    return f"layers: {', '.join(shares)}"


def with_option(option: str, plan: OffloadPlan) -> str:
    """What an option would give."""
    verb = "fits" if plan.n_gpu_layers == 1 else "fit"
    return f"with {option} {layers_of(plan)} {verb}"
