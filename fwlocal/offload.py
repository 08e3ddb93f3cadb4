"""What a model will need, from its header alone, and whether the machine has it. Pure.

The weights are the tensors' bytes; the KV cache is n_ctx rows of keys and values for every layer
(llama.cpp: ``llama-kv-cache.cpp``); compute buffers are estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fwlocal.errors import DoesNotFit
from fwlocal.gguf import GGML_TYPES, GGUFHeader
from fwlocal.hardware import Device, Memory

GIB = 2**30
DEFAULT_N_CTX = 4096
MIN_N_CTX = 256
UNIFIED_BACKENDS = ("Metal", "MTL")
_KV_BITS = {name: bytes_ * 8 / block for name, block, bytes_ in GGML_TYPES.values()}
_COMPUTE_BYTES_PER_EMBD_ROW = 512 * 4 * 8  # eight f32 rows of a micro-batch


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a loaded model occupies."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def memory_need(header: GGUFHeader, n_ctx: int, kv_type: str) -> MemoryNeed:
    """The need of a model at a context of ``n_ctx`` tokens.

    Keys missing from the header (other architectures keep other ones) count as no KV cache.
    """
    n_layer = header.number("{arch}.block_count") or 0
    n_embd = header.number("{arch}.embedding_length") or 0
    n_head = max(header.numbers("{arch}.attention.head_count", n_layer) or (1,))
    heads_kv = header.numbers("{arch}.attention.head_count_kv", n_layer) or (n_head,) * n_layer
    head_size = n_embd // max(1, n_head)
    key_size = header.number("{arch}.attention.key_length") or head_size
    value_size = header.number("{arch}.attention.value_length") or head_size
    elements = sum(heads_kv) * (key_size + value_size) * n_ctx
    kv_bytes = int(elements * _KV_BITS[kv_type.upper()] / 8)
    return MemoryNeed(header.weights_bytes, kv_bytes, n_embd * _COMPUTE_BYTES_PER_EMBD_ROW)


def check_fits(
    header: GGUFHeader,
    n_ctx: int,
    kv_type: str,
    ram: Memory,
    devices: Sequence[Device],
    loaded_bytes: int = 0,
) -> None:
    """Raise DoesNotFit, with both figures, for a model larger than the free memory of all kinds.

    ``devices`` are those that may be used. ``loaded_bytes`` of the model are in memory already.
    """
    need = memory_need(header, n_ctx, kv_type)
    free = free_bytes(ram, devices)
    if need.total_bytes - loaded_bytes > free:
        raise DoesNotFit(
            f"{header.path.name} needs {need.total_bytes / GIB:.1f} GiB "
            f"({need.weights_bytes / GIB:.1f} weights, {need.kv_bytes / GIB:.1f} KV cache for "
            f"{n_ctx} tokens), {free / GIB:.1f} GiB are free; take a smaller level, a smaller "
            "--n-ctx or --kv-type q8_0"
        )


def free_bytes(ram: Memory, devices: Sequence[Device]) -> int:
    """Memory of all kinds that a model can use now; Metal's is the RAM itself."""
    own = [d for d in devices if d.kind == "GPU" and d.backend not in UNIFIED_BACKENDS]
    return ram.available_bytes + sum(device.free_bytes for device in own)


def default_n_ctx(n_ctx_train: int, n_needed: int = 0) -> int:
    """The context when none is asked for: 4096 tokens, more where the prompt and its answer need
    it, never more than the model was trained on; rounded up as llama.cpp does."""
    wanted = -(-max(DEFAULT_N_CTX, n_needed) // MIN_N_CTX) * MIN_N_CTX
    return min(wanted, n_ctx_train) if n_ctx_train > 0 else wanted
