"""Whether two models fit in memory at once: beside the one that answers, instead of it, or not.

A model that is read from a memory map counts as free memory to the system, and is not: what it is
read from would be read from the disk again and again. GPUs are the loader's to plan; a model of
which they take less than of the one before was not given its speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from fwlocal.offload import OffloadPlan


class Room(Enum):
    """How two models are held: both BESIDE the one that answers (which may be one of them), both
    INSTEAD of it, or IN_TURN."""

    BESIDE = 1
    INSTEAD = 2
    IN_TURN = 3


def room_for(
    new_bytes: Sequence[int], loaded: OffloadPlan, available_bytes: int, *, may_leave: bool
) -> Room:
    """How models with files of ``new_bytes`` are held, given the plan of the one that answers, and
    whether it ``may_leave``. ``available_bytes`` is what the system calls available RAM."""
    host, weights = loaded.host, sum(share.weights_bytes for share in loaded.shares)
    on_host = host.weights_bytes / weights if weights else 1.0
    context = host.kv_bytes + host.compute_bytes
    needed = sum(int(size * on_host) + context for size in new_bytes)
    free = available_bytes - (host.weights_bytes if loaded.mmap else 0)
    if needed <= free:
        return Room.BESIDE
    return Room.INSTEAD if may_leave and needed <= free + host.total_bytes else Room.IN_TURN


def is_squeezed(plans: Iterable[OffloadPlan], loaded: OffloadPlan) -> bool:
    """Whether one of ``plans`` puts less of its model on GPUs than that of the loaded one."""
    return any(_on_gpu(plan) < _on_gpu(loaded) for plan in plans)


def _on_gpu(plan: OffloadPlan) -> float:
    return plan.n_gpu_layers / plan.n_layers if plan.n_layers else 0.0
