"""What must be the same for a state to be of use: the model, llama.cpp, and how it computes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fwlocal.prefix_cache.fingerprint import fingerprint

if TYPE_CHECKING:
    from fwlocal.gguf import GGUFHeader
    from fwlocal.hardware import Device
    from fwlocal.offload import OffloadPlan
    from fwlocal.store import ModelFile

KEY_BYTES = 32
# Of llama.cpp, ggml and cuBLAS: GGML_CUDA_CUBLAS_COMPUTE_TYPE, LLAMA_ATTN_ROT_DISABLE and the like.
# Most round nothing; which do, changes from build to build.
_SWITCHES = ("GGML_", "LLAMA_", "NVIDIA_TF32_OVERRIDE", "OMP_THREAD_LIMIT")


@dataclass(frozen=True)
class Setting:
    """The setting that a state was computed in; ``model`` is its name for people, and no part of
    the key.

    llama.cpp takes a state over if the kinds of its keys and values, their row sizes, the layers
    and the order of the values (transposed without flash attention) agree
    (``llama_kv_cache::state_read_data`` in its src/llama-kv-cache.cpp). That is the least. Values
    computed by another build, on another device or in batches of another size are rounded in
    another way, and an answer on them may be another one, so all that decides the rounding is a
    part of the key. The size of the context is not: a state fits into any that is large enough.
    Nor are NUMA, mmap and mlock, which move bytes and round nothing; adapters there are none.

    ``build`` is ``llama.build.build_id()``, CPU features included. ``flash_attn`` may be "auto":
    llama.cpp resolves that by the model, the devices and the build alone, which are here too.
    ``layers`` tells which device has how many; ``rope`` is "" but for models that turn keys by
    other factors in a long context. ``switches`` are the variables of the environment by which
    llama.cpp computes otherwise. ``can_cut`` says whether the context can forget the end of a state
    and go on from an earlier token: recurrent models cannot.
    """

    model: str
    fingerprint: str
    build: str
    kv_type: str
    flash_attn: str
    n_batch: int
    n_ubatch: int
    n_threads: int
    n_threads_batch: int
    layers: tuple[str, ...] = ()
    rope: str = ""
    switches: tuple[str, ...] = ()
    can_cut: bool = True

    @cached_property
    def key(self) -> bytes:
        """KEY_BYTES bytes that differ for different settings."""
        facts = {name: value for name, value in asdict(self).items() if name != "model"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def setting_of(
    file: ModelFile,
    header: GGUFHeader,
    plan: OffloadPlan,
    *,
    gpus: Sequence[Device],
    n_ctx: int,
    n_threads: int,
    n_threads_batch: int,
    build: str,
    can_cut: bool,
) -> Setting | None:
    """The setting of a model loaded by ``plan`` with a context of ``n_ctx`` tokens, as it is made;
    None where the model's file cannot be read any more."""
    model = fingerprint(file, header)
    if model is None:
        return None
    return Setting(
        model=f"{file.name}:{file.level}" if file.level else file.name,
        fingerprint=model,
        build=build,
        kv_type=plan.kv_type,
        flash_attn=plan.flash_attn,
        n_batch=min(plan.n_batch, n_ctx),
        n_ubatch=min(plan.n_ubatch, n_ctx),
        n_threads=n_threads,
        n_threads_batch=n_threads_batch,
        layers=_layers(plan, gpus),
        rope=rope_of(header, n_ctx),
        switches=switches_in(os.environ),
        can_cut=can_cut,
    )


def _layers(plan: OffloadPlan, gpus: Sequence[Device]) -> tuple[str, ...]:
    """Which device holds how many layers, cards by their own names too: CUDA0 may be another one
    tomorrow."""
    names = {device.name: device.description for device in gpus}
    return tuple(
        f"{share.device} ({names.get(share.device, '')}): {share.n_layers}" for share in plan.gpus
    )


def switches_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that llama.cpp and its libraries look at, as NAME=VALUE, in order."""
    found = (f"{name}={value}" for name, value in environment.items() if name.startswith(_SWITCHES))
    return tuple(sorted(found))


def rope_of(header: GGUFHeader, n_ctx: int) -> str:
    """For a model that has factors for both, "long" or "short": a context of more tokens than it
    was first trained on takes the long ones (``llama_model::get_rope_factors`` in llama.cpp's
    src/llama-model.cpp). Empty for all others."""
    if not any("rope_factors_long" in tensor.name for tensor in header.tensors):
        return ""
    trained = header.number("{arch}.context_length") or 0
    original = header.number("{arch}.rope.scaling.original_context_length") or trained
    return "long" if n_ctx > original else "short"
