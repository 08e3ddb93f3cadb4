"""What a plan is asked, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MARGIN_BYTES = 512 << 20


@dataclass(frozen=True)
class Request:
    """What is asked for. ``kv_type`` "auto" and ``n_gpu_layers`` None are the plan's to choose;
    ``gpu_memory`` caps the free bytes of all GPUs, or of each as they are listed; ``margin_bytes``
    stay free on each, where the layers' number is not asked for. ``n_threads_batch`` are those of
    prefill, None the same as of decoding. ``unasked`` names the settings (``fwlocal.tuned.NAMES``)
    that nobody asked for, so that what was measured to fit may take their place. ``brief`` expects
    no more than 256 tokens. ``mmap`` None is the plan's to choose."""

    n_ctx: int
    kv_type: str = "auto"
    flash_attn: str = "auto"
    n_gpu_layers: int | None = None
    margin_bytes: int = DEFAULT_MARGIN_BYTES
    shrink_context: bool = False
    gpu_memory: tuple[int, ...] | None = None
    mmap: bool | None = None
    mlock: bool = False
    n_batch: int = 512
    n_ubatch: int = 512
    n_threads_batch: int | None = None
    numa: str | None = None
    unasked: tuple[str, ...] = ()
    brief: bool = False


@dataclass(frozen=True)
class Share:
    """What one device gets, and what it has free before. The output counts as a layer."""

    device: str
    n_layers: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    free_bytes: int
    budget_bytes: int

    @property
    def total_bytes(self) -> int:
        """All that it gets."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


@dataclass(frozen=True)
class OffloadPlan:
    """How a model is to be loaded: ``shares`` are the GPUs' in llama.cpp's order, then the CPU's;
    ``n_layers`` are all there are, with the output. ``n_threads`` (of decoding) and
    ``n_threads_batch`` (of prefill) are None where they are left to whoever loads it, and ``numa``
    is None for no strategy; ``tuned`` names what ``fwlocal tune`` found and nobody asked for."""

    shares: tuple[Share, ...]
    n_gpu_layers: int
    n_layers: int
    n_ctx: int
    kv_type: str
    flash_attn: str
    n_batch: int
    n_ubatch: int
    mmap: bool
    mlock: bool
    reason: str = ""
    advice: tuple[str, ...] = ()
    n_threads: int | None = None
    n_threads_batch: int | None = None
    numa: str | None = None
    tuned: tuple[str, ...] = ()

    @property
    def gpus(self) -> tuple[Share, ...]:
        """The GPUs' shares."""
        return self.shares[:-1]

    @property
    def host(self) -> Share:
        """The CPU's share."""
        return self.shares[-1]
