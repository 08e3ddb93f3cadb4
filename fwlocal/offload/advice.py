"""What would make a plan better, and what would fit where there is none: each is tried before it is
said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from fwlocal.levels import LADDER
from fwlocal.offload.footprint import Footprint
from fwlocal.offload.placement import NOWHERE, Room
from fwlocal.offload.plan import OffloadPlan
from fwlocal.offload.planner import Planner, largest_n_ctx
from fwlocal.offload.wording import named, with_option
from fwlocal.sizes import gib

SMALLER = 0.95  # of the weights: a level of nearly the same size is no advice
_STEP_BYTES = 16 << 20


def advice(planner: Planner, plan: OffloadPlan) -> Iterator[str]:
    """What would put more layers on the GPUs."""
    is_chosen = planner.request.n_gpu_layers is None
    if plan.n_gpu_layers == plan.n_layers or not planner.rooms or not is_chosen:
        return
    options = {
        "--kv q8_0": planner.asking(kv_type="auto").best(plan.n_ctx),
        "--gpu-margin 0": planner.asking(margin_bytes=0).best(plan.n_ctx),
    }
    for option, other in options.items():
        if other is not None and other.n_gpu_layers > plan.n_gpu_layers:
            yield with_option(option, other)
    fitting = largest_n_ctx(plan.n_ctx, lambda n_ctx: _holds_all(planner, n_ctx, plan.kv_type))
    if fitting < plan.n_ctx and _holds_all(planner, fitting, plan.kv_type):
        yield f"with --n-ctx {fitting} all {plan.n_layers} layers fit"
    if not planner.is_unified(planner.rooms[-1].device):
        lacking = _lacking_bytes(planner, plan)
        yield f"with {gib(lacking)} more on {planner.rooms[-1].device} all layers fit"
    on_gpus = sum(room.size_bytes for room in planner.rooms)
    level = _level(planner, on_gpus, lambda one: _holds_all(one, plan.n_ctx, plan.kv_type))
    if level:
        yield f"at {level} (about {gib(level_bytes(planner.model, level))}) all layers may fit"


def refusal(planner: Planner, n_ctx: int) -> str:
    """Why there is no plan, and what would fit."""
    asked = planner.request.n_gpu_layers
    if asked and planner.rooms and not _gpus_hold(planner, asked, n_ctx):
        return _too_many_layers(planner, asked, n_ctx)
    shrunk = planner.shrunk(n_ctx)
    level = _level(planner, planner.machine.free_bytes, lambda one: one.best(n_ctx) is not None)
    offers = [
        "another number of layers" if asked is not None and planner.rooms else "",
        f"--n-ctx {shrunk.n_ctx}" if shrunk else "",
        f"{level} (about {gib(level_bytes(planner.model, level))})" if level else "",
    ]
    would = " or ".join(filter(None, offers)) or "only a much smaller level, or another model,"
    return f"{_what_binds(planner, n_ctx)}; {would} would fit"


def level_bytes(model: Footprint, level: str) -> int:
    """The weights at another level of the ladder, about."""
    return round(model.n_params * LADDER[level] / 8)


def _what_binds(planner: Planner, n_ctx: int) -> str:
    """How much RAM is lacking, beside what the GPUs hold."""
    model, filler = planner.model, planner.filler(n_ctx, planner.kv_types[-1])
    asked = planner.request.n_gpu_layers
    placement = filler.best(planner.rooms) if asked is None else NOWHERE
    if asked:
        placement = filler.exactly(min(asked, model.n_layers), planner.rooms) or NOWHERE
    plan = planner.planned(filler, placement)
    host = plan.host
    free = f"{gib(planner.machine.ram.available_bytes)} of RAM are free"
    beside = f"{placement.n_layers} of {model.n_layers} layers" if placement.n_layers else ""
    shared = sum(gpu.total_bytes for gpu in plan.gpus if planner.is_unified(gpu.device))
    if shared:
        return f"{model.name} needs {gib(shared + host.total_bytes)} in all, and {free}"
    if beside:
        return (
            f"{model.name}: beside {beside} on {named(placement.devices)} the CPU would "
            f"need {gib(host.total_bytes)}, and {free}"
        )
    return (
        f"{model.name} needs {gib(host.total_bytes)} ({gib(host.weights_bytes)} weights, "
        f"{gib(host.kv_bytes)} KV cache for {n_ctx} tokens), and {free}"
    )


def _too_many_layers(planner: Planner, asked: int, n_ctx: int) -> str:
    """More layers were asked for than the GPUs hold."""
    model = planner.model
    fitting = planner.asking(n_gpu_layers=None, margin_bytes=0).best(n_ctx)
    free = ", ".join(f"{gib(room.size_bytes)} on {room.device}" for room in planner.rooms)
    instead = f"{fitting.n_gpu_layers} do" if fitting else "no number does"
    return (
        f"{min(asked, model.n_layers)} layers of {model.name} do not fit on the GPU ({free} free); "
        f"{instead}: leave --n-gpu-layers out, or give a smaller number"
    )


def _gpus_hold(planner: Planner, n_layers: int, n_ctx: int) -> bool:
    wanted = min(n_layers, planner.model.n_layers)
    return any(
        planner.filler(n_ctx, kv_type).exactly(wanted, planner.rooms) is not None
        for kv_type in planner.kv_types
    )


def _holds_all(planner: Planner, n_ctx: int, kv_type: str) -> bool:
    filler = planner.filler(n_ctx, kv_type)
    return filler.exactly(planner.model.n_layers, planner.rooms) is not None


def _lacking_bytes(planner: Planner, plan: OffloadPlan) -> int:
    """How much more memory of the fastest GPU would hold all layers, to the next 16 MiB."""
    *others, last = planner.rooms
    filler = planner.filler(plan.n_ctx, plan.kv_type)

    def is_enough(steps: int) -> bool:
        larger = Room(last.device, last.size_bytes + steps * _STEP_BYTES)
        return filler.exactly(plan.n_layers, [*others, larger]) is not None

    low, high = 0, 1
    while not is_enough(high):
        low, high = high, 2 * high
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    # A margin that is not even free is lacking, too.
    return high * _STEP_BYTES + max(0, planner.request.margin_bytes - planner.free[last.device])


def _level(planner: Planner, free_bytes: int, fits: Callable[[Planner], bool]) -> str | None:
    """The best smaller level that ``fits``, of those with fewer than ``free_bytes``."""
    model = planner.model
    for level in LADDER:
        size_bytes = level_bytes(model, level)
        factor = size_bytes / max(1, model.weights_bytes)
        if (
            factor < SMALLER
            and size_bytes < free_bytes
            and fits(planner.of(_scaled(model, factor)))
        ):
            return level
    return None


def _scaled(model: Footprint, factor: float) -> Footprint:
    """The model with every weight smaller by a factor."""
    return replace(
        model,
        layers=tuple(
            replace(layer, weights_bytes=round(layer.weights_bytes * factor))
            for layer in model.layers
        ),
        input_bytes=round(model.input_bytes * factor),
        output_bytes=round(model.output_bytes * factor),
    )
