"""How to run a model, as callers ask it, and what of it a plan is asked."""

from __future__ import annotations

from dataclasses import dataclass

from fwlocal import llama
from fwlocal.errors import UsageError
from fwlocal.gguf import GGUFHeader
from fwlocal.offload import DEFAULT_MARGIN_BYTES, MIN_N_CTX, Request, default_n_ctx
from fwlocal.offload.context import rounded_n_ctx


@dataclass(frozen=True)
class EngineOptions:
    """How to run a model. ``n_ctx`` None grows with the prompts, 0 is all the model was trained
    on; ``n_threads`` None is the performance cores; ``n_gpu_layers`` None is as many as fit;
    ``kv_type`` "auto" is f16, or q8_0 where more layers fit by it; ``gpu_memory`` caps what is
    used of each GPU and ``gpu_margin`` is what stays free on each, in bytes; ``workers`` are
    addresses, HOST:PORT; ``raw`` asks for no prompt format, for callers of ``Engine.generate``
    alone. Raises UsageError."""

    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    gpu_memory: tuple[int, ...] | None = None
    gpu_margin: int = DEFAULT_MARGIN_BYTES
    shrink_context: bool = False
    workers: tuple[str, ...] = ()
    flash_attn: str = "auto"
    kv_type: str = "auto"
    mmap: bool = True
    mlock: bool = False
    prompt_format: str | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        choices = {"kv_type": ("auto", *llama.KV_TYPES), "flash_attn": llama.FLASH_ATTENTION}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                named = ", ".join(known)
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be one of {named}")
        least = {"n_ctx": 0, "n_threads": 1, "n_gpu_layers": 0, "gpu_margin": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise UsageError(f"{name} is {value}; it must be at least {bound}")
        if isinstance(self.workers, str):
            raise UsageError("workers is a text; it must be a tuple of addresses, HOST:PORT each")
        if self.kv_type not in ("auto", "f16") and self.flash_attn == "off":
            raise UsageError(f"a KV cache in {self.kv_type} needs flash attention; leave it on")
        if self.raw and self.prompt_format is not None:
            raise UsageError("a raw prompt has no prompt format; leave one of the two out")


def request_of(options: EngineOptions, header: GGUFHeader) -> Request:
    """What the plan is asked. Raises UsageError for a context outside what the model knows."""
    trained = header.number("{arch}.context_length") or 0
    return Request(
        n_ctx=_checked_n_ctx(options.n_ctx, header) or default_n_ctx(trained),
        kv_type=options.kv_type,
        flash_attn=options.flash_attn,
        n_gpu_layers=options.n_gpu_layers,
        margin_bytes=options.gpu_margin,
        shrink_context=options.shrink_context,
        gpu_memory=options.gpu_memory,
        mmap=options.mmap,
        mlock=options.mlock,
    )


def _checked_n_ctx(n_ctx: int | None, header: GGUFHeader) -> int:
    """The context's size, 0 where it grows. Raises UsageError outside what the model knows."""
    trained = header.number("{arch}.context_length") or 0
    if n_ctx is None:
        return 0
    if n_ctx == 0:
        return trained or default_n_ctx(0)
    least = min(MIN_N_CTX, trained or MIN_N_CTX)
    if n_ctx < least or (trained and n_ctx > trained):
        raise UsageError(
            f"--n-ctx {n_ctx}: {header.path.name} takes {least} to {trained or 'any number of'} "
            "tokens (0 for all)"
        )
    return rounded_n_ctx(n_ctx)
