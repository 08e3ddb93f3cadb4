"""A plan in llama.cpp's terms: how weights are loaded and contexts are made by it."""

from __future__ import annotations

from fwlocal import llama
from fwlocal.offload import OffloadPlan


def load_options(plan: OffloadPlan, *, dry: bool = False) -> llama.LoadOptions:
    """How the weights are loaded."""
    split = {share.device: share.n_layers for share in plan.gpus}
    return llama.LoadOptions(split, plan.mmap, plan.mlock, dry=dry)


def context_options(
    plan: OffloadPlan, n_threads: int, n_ctx: int | None = None
) -> llama.ContextOptions:
    """How a context is made; ``n_threads`` are the site's, where the plan names none; ``n_ctx`` 0
    is the KV cache's to choose, None the plan's."""
    n_threads = plan.n_threads or n_threads
    return llama.ContextOptions(
        n_ctx=plan.n_ctx if n_ctx is None else n_ctx,
        n_threads=n_threads,
        n_threads_batch=plan.n_threads_batch or n_threads,
        n_batch=plan.n_batch,
        n_ubatch=plan.n_ubatch,
        flash_attn=plan.flash_attn,
        kv_type=plan.kv_type,
    )
