"""What ``fwlocal tune`` remembered, in place of the settings that nobody asked for.

Whatever was asked for stays. How the result is planned and loaded is the callers' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal import llama
from fwlocal.files import user_cache
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Device
from fwlocal.offload import OffloadPlan, Request

if TYPE_CHECKING:
    from fwlocal.tuned import Settings

_OF_REQUEST = ("n_batch", "n_ubatch", "flash_attn", "kv_type", "mmap", "mlock", "numa")


@dataclass(frozen=True)
class Chosen:
    """A request with what was remembered in it, the threads of decoding and of prefill, and the
    names of what was remembered."""

    request: Request
    n_threads: int
    n_threads_batch: int
    names: tuple[str, ...]


def as_asked(request: Request, n_threads: int) -> Chosen:
    """The request as it stands, on ``n_threads``."""
    return Chosen(request, n_threads, request.n_threads_batch or n_threads, ())


def placed(plan: OffloadPlan) -> str:
    """Where its layers are: one of ``fwlocal.tuned.PLACED``."""
    if not plan.gpus:
        return "CPU"
    return "GPU" if plan.n_gpu_layers == plan.n_layers else "both"


def with_tuned(
    request: Request,
    header: GGUFHeader,
    plan: OffloadPlan,
    *,
    gpus: Sequence[Device],
    n_threads: int,
    folder: Path | None = None,
) -> Chosen | None:
    """The request with what is remembered for the model on this machine, with these ``gpus``;
    None where that is nothing. ``plan`` is one made without it: settings hold for where it puts
    the layers. ``n_threads`` are the default's, or those that were asked for."""
    folder = user_cache() / "tuned" if folder is None else folder
    if not request.unasked or not folder.is_dir():
        return None
    from fwlocal.tuned import recall, shape_of, this_machine  # only where something is remembered

    where = this_machine(gpus, llama.build_info())
    found = recall(folder, shape_of(header), where, placed(plan))
    return None if found is None else chosen(request, n_threads, found.settings)


def chosen(request: Request, n_threads: int, settings: Settings) -> Chosen | None:
    """``settings`` in place of what was not asked for; None where none of them is."""
    taken = {n: v for n, v in settings.taken().items() if n in request.unasked}
    _drop_what_excludes(taken, request)
    if not taken:
        return None
    of_request = {name: value for name, value in taken.items() if name in _OF_REQUEST}
    changes: dict[str, Any] = {**of_request, "unasked": ()}
    return Chosen(
        request=replace(request, **changes),
        n_threads=taken.get("n_threads", n_threads),
        n_threads_batch=taken.get("n_threads_batch", request.n_threads_batch or n_threads),
        names=tuple(taken),
    )


def _drop_what_excludes(taken: dict[str, Any], request: Request) -> None:
    """A quantized KV cache needs flash attention: where one of the two is asked for, what is
    remembered of the other must go with it."""
    if request.kv_type not in ("auto", "f16") and taken.get("flash_attn") == "off":
        del taken["flash_attn"]
    if request.flash_attn == "off":
        taken.pop("kv_type", None)
