"""How to run a model, as callers ask it, and what of it a plan is asked."""

from __future__ import annotations

from dataclasses import dataclass

from fwlocal import llama
from fwlocal.config import Config
from fwlocal.errors import UsageError
from fwlocal.gguf import GGUFHeader
from fwlocal.offload import DEFAULT_MARGIN_BYTES, MIN_N_CTX, Request, default_n_ctx
from fwlocal.offload.context import rounded_n_ctx

# What ``fwlocal tune`` finds, and llama.cpp's NUMA strategies: ``fwlocal.tuned``'s NAMES
# and NUMA, spelled again, so that a load where nothing is remembered does without that module.
TUNABLE = (
    "n_threads",
    "n_threads_batch",
    "n_batch",
    "n_ubatch",
    "flash_attn",
    "kv_type",
    "mmap",
    "mlock",
    "numa",
)
NUMA = ("distribute", "isolate", "numactl")
DEFAULT_PREFIX_BYTES = Config().prefix_cache_bytes
DEFAULT_N_BATCH, DEFAULT_N_UBATCH = Request.n_batch, Request.n_ubatch
_LEAST = {
    "n_ctx": 0,
    "n_threads": 1,
    "n_threads_batch": 1,
    "n_batch": 1,
    "n_ubatch": 1,
    "n_gpu_layers": 0,
    "gpu_margin": 0,
    "prefix_bytes": 0,
}
_SWITCHES: dict[str, tuple[bool | None, ...]] = {
    "tuned": (True, False),
    "lookup": (True, False),
    "lossless": (True, False, None),
    "brief": (True, False),
}


@dataclass(frozen=True)
class EngineOptions:
    """How to run a model. ``n_ctx`` None grows with the prompts, 0 is all the model was trained
    on; ``n_threads`` None is the performance cores; ``n_gpu_layers`` None is as many as fit;
    ``kv_type`` "auto" is f16, or q8_0 where more layers fit by it; ``gpu_memory`` caps what is
    used of each GPU and ``gpu_margin`` is what stays free on each, in bytes; ``workers`` are
    addresses, HOST:PORT; ``raw`` asks for no prompt format, for callers of ``Engine.generate``
    alone. ``n_threads_batch`` are the threads of prefill, None as many as ``n_threads``;
    ``n_batch`` tokens are given to llama.cpp at once, which computes ``n_ubatch`` of them at once,
    both 512 where None; ``mmap`` None maps the file, or on a CPU copies it into huge pages where
    there is room, ``mlock`` None does not lock it in RAM, and ``numa`` None takes no strategy of
    ``fwlocal.tuned.NUMA``.

    Where ``tuned``, what ``fwlocal tune`` found for the model and the machine takes the place of
    every None and "auto" of these: threads, batches, flash_attn, kv_type, mmap, mlock and numa.
    ``lookup`` drafts from the text itself; ``lossless`` drafts only where several tokens at once
    are computed to the bit as one by one, None on the CPU alone; ``brief`` expects no more than 256
    tokens, where the CPU's flash attention is as fast as plain attention and exact. Prompts are
    kept on the disk in ``prefix_bytes`` at most, 0 for none. Raises UsageError."""

    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    gpu_memory: tuple[int, ...] | None = None
    gpu_margin: int = DEFAULT_MARGIN_BYTES
    shrink_context: bool = False
    workers: tuple[str, ...] = ()
    flash_attn: str = "auto"
    kv_type: str = "auto"
    mmap: bool | None = None
    mlock: bool | None = None
    prompt_format: str | None = None
    raw: bool = False
    n_threads_batch: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    numa: str | None = None
    tuned: bool = True
    lookup: bool = True
    lossless: bool | None = None
    brief: bool = False
    prefix_bytes: int = DEFAULT_PREFIX_BYTES

    def __post_init__(self) -> None:
        choices = {"kv_type": ("auto", *llama.KV_TYPES), "flash_attn": llama.FLASH_ATTENTION}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                named = ", ".join(known)
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be one of {named}")
        if self.numa is not None and self.numa not in NUMA:
            raise UsageError(f"numa is {self.numa!r}; it must be one of {', '.join(NUMA)}")
        self._check_numbers()
        self._check_switches()
        if isinstance(self.workers, str):
            raise UsageError("workers is a text; it must be a tuple of addresses, HOST:PORT each")
        if self.kv_type not in ("auto", "f16") and self.flash_attn == "off":
            raise UsageError(f"a KV cache in {self.kv_type} needs flash attention; leave it on")
        if self.raw and self.prompt_format is not None:
            raise UsageError("a raw prompt has no prompt format; leave one of the two out")

    def _check_numbers(self) -> None:
        for name, bound in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise UsageError(f"{name} is {value!r}; it must be a whole number")
            if value is not None and value < bound:
                raise UsageError(f"{name} is {value}; it must be at least {bound}")

    def _check_switches(self) -> None:
        for name, allowed in _SWITCHES.items():
            value = getattr(self, name)
            if not any(value is one for one in allowed):
                raise UsageError(f"{name} is {value!r}; it must be {_either(allowed)}")


def _either(values: tuple[bool | None, ...]) -> str:
    """``True, False or None``."""
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}"


def request_of(options: EngineOptions, header: GGUFHeader) -> Request:
    """What the plan is asked. Raises UsageError for a context outside what the model knows."""
    trained = header.number("{arch}.context_length") or 0
    n_batch = options.n_batch or max(DEFAULT_N_BATCH, options.n_ubatch or 0)
    return Request(
        n_ctx=_checked_n_ctx(options.n_ctx, header) or default_n_ctx(trained),
        kv_type=options.kv_type,
        flash_attn=options.flash_attn,
        n_gpu_layers=options.n_gpu_layers,
        margin_bytes=options.gpu_margin,
        shrink_context=options.shrink_context,
        gpu_memory=options.gpu_memory,
        mmap=options.mmap,
        mlock=bool(options.mlock),
        n_batch=n_batch,
        n_ubatch=min(options.n_ubatch or DEFAULT_N_UBATCH, n_batch),
        n_threads_batch=options.n_threads_batch,
        numa=options.numa,
        unasked=_unasked(options) if options.tuned else (),
        brief=options.brief,
    )


def _unasked(options: EngineOptions) -> tuple[str, ...]:
    """The settings that are left to what was measured. Threads that were asked for are those of
    prefill, too, and a batch holds micro-batches."""
    values = {name: getattr(options, name) for name in TUNABLE}
    if options.n_threads is not None:
        values["n_threads_batch"] = options.n_threads
    if options.n_ubatch is not None or options.n_batch is not None:
        values["n_batch"] = values["n_ubatch"] = "asked"
    return tuple(name for name, value in values.items() if value in (None, "auto"))


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
