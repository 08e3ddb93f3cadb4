"""The policy: which of the possible placements is taken. Pure.

In this order: keep the context that was asked for; put whole layers on the fastest device; if not
all fit, keep the KV cache in q8_0; then fewer layers; then, only when asked, less context. What
even the CPU cannot hold is refused with what would fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from fwlocal.errors import UsageError
from fwlocal.hardware import Machine, listing_order
from fwlocal.offload.compute import HOST, Measured, Role, Setting
from fwlocal.offload.context import MIN_N_CTX
from fwlocal.offload.footprint import Footprint
from fwlocal.offload.placement import NOWHERE, Filler, Placement, Room
from fwlocal.offload.plan import OffloadPlan, Request, Share

AUTO_KV_TYPES = ("f16", "q8_0")  # the better first
_KV_BLOCK = 32  # elements in a block of a quantized cache


def resized(
    model: Footprint, machine: Machine, plan: OffloadPlan, n_ctx: int, measured: Measured
) -> OffloadPlan:
    """The same layers on the same devices with another context."""
    planner = Planner(model, machine, _request_of(plan, n_ctx), measured)
    return planner.planned(planner.filler(n_ctx, plan.kv_type), placement_of(plan))


def with_one_more(model: Footprint, plan: OffloadPlan, machine: Machine) -> OffloadPlan | None:
    """The plan with one layer more on its first GPU, whether it fits or not; None where all are
    on GPUs, or there is none."""
    devices, counts = placement_of(plan).devices, placement_of(plan).counts
    if plan.n_gpu_layers == plan.n_layers or not machine.gpus:
        return None
    first = (devices or (machine.gpus[-1].name,), (sum(counts[:1]) + 1, *counts[1:]))
    planner = Planner(model, machine, _request_of(plan, plan.n_ctx), {})
    return planner.planned(planner.filler(plan.n_ctx, plan.kv_type), Placement(*first))


def roles_of(model: Footprint, plan: OffloadPlan) -> tuple[Role, ...]:
    """What each device does, in the order of the plan's shares."""
    setting = Setting(plan.n_ctx, plan.kv_type, plan.flash_attn != "off", plan.n_ubatch)
    return Filler(model, setting, {}).roles(placement_of(plan))


def _request_of(plan: OffloadPlan, n_ctx: int) -> Request:
    return Request(
        n_ctx,
        flash_attn=plan.flash_attn,
        n_ubatch=plan.n_ubatch,
        n_batch=plan.n_batch,
        mmap=plan.mmap,
        mlock=plan.mlock,
    )


def placement_of(plan: OffloadPlan) -> Placement:
    """Which GPU holds how many layers."""
    gpus = plan.gpus
    return Placement(tuple(s.device for s in gpus), tuple(s.n_layers for s in gpus))


class Planner:
    """One model on one machine, as asked. ``rooms`` are what may be used of each GPU: its free
    memory less the margin, or all of it for a number of layers that was asked for."""

    def __init__(
        self, model: Footprint, machine: Machine, request: Request, measured: Measured
    ) -> None:
        self.model, self.machine, self.request, self.measured = model, machine, request, measured
        self.free = free_bytes(machine, request)
        margin = request.margin_bytes if request.n_gpu_layers is None else 0
        self.rooms = [Room(d.name, max(0, self.free[d.name] - margin)) for d in machine.gpus]

    def asking(self, **changes: object) -> Planner:
        """The same with another request."""
        request = replace(self.request, **changes)  # type: ignore[arg-type]
        return Planner(self.model, self.machine, request, self.measured)

    def of(self, model: Footprint) -> Planner:
        """The same for another model."""
        return Planner(model, self.machine, self.request, self.measured)

    @property
    def kv_types(self) -> Sequence[str]:
        """The KV types that may be used, the best first."""
        if self.request.kv_type != "auto":
            return (self.request.kv_type,)
        is_whole = all(size % _KV_BLOCK == 0 for size in self.model.head_sizes)
        is_possible = is_whole and self.request.flash_attn != "off"
        return AUTO_KV_TYPES if is_possible else AUTO_KV_TYPES[:1]

    def best(self, n_ctx: int) -> OffloadPlan | None:
        """The plan with the most layers on the GPUs that the machine can hold; where it makes no
        difference, with the better KV cache."""
        possible: OffloadPlan | None = None
        for kv_type in self.kv_types:
            plan = self._candidate(n_ctx, kv_type)
            if plan is not None and plan.n_gpu_layers == plan.n_layers:
                return plan
            if possible is None or (plan and plan.n_gpu_layers > possible.n_gpu_layers):
                possible = plan
        return possible

    def shrunk(self, n_ctx: int) -> OffloadPlan | None:
        """The plan with the largest smaller context that fits."""
        return self.best(largest_n_ctx(n_ctx, lambda size: self.best(size) is not None))

    def filler(self, n_ctx: int, kv_type: str) -> Filler:
        """Of this model's layers in that setting."""
        is_flash = self.request.flash_attn != "off"
        setting = Setting(n_ctx, kv_type, is_flash, self.request.n_ubatch)
        return Filler(self.model, setting, self.measured)

    def planned(self, filler: Filler, placement: Placement) -> OffloadPlan:
        """The placement in bytes, without words."""
        request, setting = self.request, filler.setting
        *compute, on_host = map(filler.compute_bytes, filler.roles(placement))
        host = self._host_share(filler.setting, placement, on_host)
        return OffloadPlan(
            shares=(*self._gpu_shares(filler.setting, placement, compute), host),
            n_gpu_layers=placement.n_layers,
            n_layers=self.model.n_layers,
            n_ctx=setting.n_ctx,
            kv_type=setting.kv_type,
            flash_attn=request.flash_attn,
            n_batch=request.n_batch,
            n_ubatch=request.n_ubatch,
            mmap=True if request.mmap is None else request.mmap,
            mlock=request.mlock,
        )

    def is_unified(self, device: str) -> bool:
        """Whether a GPU's memory is the RAM."""
        return any(d.name == device and self.machine.is_unified(d) for d in self.machine.gpus)

    def _candidate(self, n_ctx: int, kv_type: str) -> OffloadPlan | None:
        """The plan with this KV cache, if the machine can hold it."""
        filler, asked = self.filler(n_ctx, kv_type), self.request.n_gpu_layers
        if asked is None or not self.rooms:
            placement: Placement | None = filler.best(self.rooms)
        else:
            placement = filler.exactly(min(asked, self.model.n_layers), self.rooms)
        if placement is None:
            return None
        plan = self.planned(filler, placement)
        shared = sum(gpu.total_bytes for gpu in plan.gpus if self.is_unified(gpu.device))
        fits = plan.host.total_bytes + shared <= self.machine.ram.available_bytes
        return plan if fits else None

    def _gpu_shares(
        self, setting: Setting, placement: Placement, compute: Sequence[int]
    ) -> Iterator[Share]:
        first = self.model.n_layers - placement.n_layers
        last = placement.devices[-1:]
        for device, count, compute_bytes in zip(
            placement.devices, placement.counts, compute, strict=True
        ):
            end = min(first + count, len(self.model.layers))
            output = self.model.output_bytes if device in last else 0
            yield Share(
                device=device,
                n_layers=count,
                weights_bytes=self.model.layers_bytes(first, end) + output,
                kv_bytes=self.model.kv_bytes(setting.n_ctx, setting.kv_type, first, end),
                compute_bytes=compute_bytes,
                free_bytes=self.free[device],
                budget_bytes=max(0, self.free[device] - self.request.margin_bytes),
            )
            first = end

    def _host_share(self, setting: Setting, placement: Placement, compute_bytes: int) -> Share:
        model = self.model
        end = min(model.n_layers - placement.n_layers, len(model.layers))
        some = model.input_bytes + model.layers_bytes(0, end)
        available = self.machine.ram.available_bytes
        return Share(
            device=HOST,
            n_layers=model.n_layers - placement.n_layers,
            weights_bytes=model.weights_bytes if placement == NOWHERE else some,
            kv_bytes=model.kv_bytes(setting.n_ctx, setting.kv_type, 0, end),
            compute_bytes=compute_bytes,
            free_bytes=available,
            budget_bytes=available,
        )


def largest_n_ctx(below: int, fits: Callable[[int], bool]) -> int:
    """The largest context smaller than ``below`` that ``fits``; the smallest there is where none
    does."""
    low, high = 1, below // MIN_N_CTX
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * MIN_N_CTX) else (low, middle)
    return low * MIN_N_CTX


def free_bytes(machine: Machine, request: Request) -> dict[str, int]:
    """Free bytes of each GPU, within the caps that were asked for: one for all of them, or one for
    each as they are listed. Raises UsageError."""
    free = {device.name: device.free_bytes for device in machine.gpus}
    caps = request.gpu_memory
    if not caps or not free:
        return free
    listed = sorted(free, key=listing_order)
    if len(caps) == 1:
        caps *= len(listed)
    if len(caps) != len(listed):
        raise UsageError(
            f"--gpu-memory has {len(caps)} sizes, and there are {len(listed)} GPUs "
            f"({', '.join(listed)}); give one for all, or one for each"
        )
    return {name: min(free[name], cap) for name, cap in zip(listed, caps, strict=True)}
