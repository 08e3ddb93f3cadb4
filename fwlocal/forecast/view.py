"""``fwlocal plan``: forecasts as tables for people and as data for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fwlocal.forecast.cards import Speed
from fwlocal.forecast.estimate import EFFICIENCY, NO_LEVEL, Forecast, best
from fwlocal.forecast.what_if import Setup
from fwlocal.offload import OffloadPlan, Share
from fwlocal.sizes import gib
from fwlocal.tables import Column, Table

if TYPE_CHECKING:
    from rich.console import Console

FORMULA = (
    f"tok/s is an estimate: {EFFICIENCY:g} / sum of (bytes read for a token / bandwidth) over the "
    "devices, the context half full"
)
NEEDS_IMATRIX = "imatrix"
IMATRIX_NOTE = f"{NEEDS_IMATRIX}: to be converted with an importance matrix (--imatrix)"
BAR_WIDTH = 10

LEVEL_COLUMNS = (
    Column("LEVEL"),
    Column("SIZE", right=True, left_out=6),
    Column("SOURCE", left_out=5),
    Column("FITS"),
    Column("ON GPUS", right=True, left_out=2),
    Column("IN RAM", right=True, left_out=1),
    Column("KV", left_out=4),
    Column("CONTEXT", right=True, left_out=3),
    Column("TOK/S", right=True),
)
DEVICE_COLUMNS = (
    Column("DEVICE"),
    Column("LAYERS", right=True),
    Column("WEIGHTS", right=True, left_out=4),
    Column("KV CACHE", right=True, left_out=3),
    Column("COMPUTE", right=True, left_out=2),
    Column("TOTAL", right=True),
    Column("FREE", right=True),
    Column("", left_out=1),
)


@dataclass(frozen=True)
class View:
    """What there is to show: every level's forecast, the ``chosen`` one, and for which machine."""

    model: str
    forecasts: Sequence[Forecast]
    chosen: Forecast | None
    setup: Setup


def show(view: View, console: Console) -> None:
    """The table of the levels where there are several, then the chosen one in detail, then what
    the figures rest on."""
    if len(view.forecasts) > 1:
        Table(LEVEL_COLUMNS, [_level_cells(found) for found in view.forecasts]).show(console)
        _say(console, "", _best(view.forecasts))
    if view.chosen is not None and view.chosen.plan is not None:
        if len(view.forecasts) > 1:
            _say(console, "")
        _show_detail(view.model, view.chosen, view.chosen.plan, console)
    elif view.chosen is not None:
        _say(console, view.chosen.refusal)
    needy = any(found.candidate.needs_imatrix for found in view.forecasts)
    notes = (*view.setup.in_words(), FORMULA, *([IMATRIX_NOTE] if needy else []))
    _say(console, "", *notes, dim=True)


def _show_detail(model: str, found: Forecast, plan: OffloadPlan, console: Console) -> None:
    speed = _speed(found)
    told = f", about {speed} tok/s" if speed else ""
    level = found.candidate.level
    named = f"{model}:{level}" if level != NO_LEVEL else model
    _say(console, f"{named}, context {plan.n_ctx}, KV cache {plan.kv_type}{told}")
    Table(DEVICE_COLUMNS, [_device_cells(share) for share in plan.shares]).show(console)
    _say(console, plan.reason, *plan.advice)


def _say(console: Console, *lines: str, dim: bool = False) -> None:
    """Lines of text, broken between words on a terminal and whole in a pipe."""
    from rich.text import Text

    from fwlocal.terminal import inert

    for line in lines:
        text = Text(inert(line), style="dim" if dim else "")
        console.print(text, soft_wrap=not console.is_terminal)


def _best(forecasts: Sequence[Forecast]) -> str:
    """Which level to take, in a sentence."""
    found = best(forecasts)
    if found is None or found.plan is None:
        return "no level fits"
    level, speed = found.candidate.level, _speed(found)
    told = f", about {speed} tok/s" if speed else ""
    if found.is_whole:
        return f"{level} is the largest level that fits whole on GPUs{told}"
    if not found.plan.n_gpu_layers:
        return f"{level} is the largest level that fits, on the CPU{told}"
    return f"no level fits whole on GPUs; {level} comes nearest, {fits(found)}{told}"


def _level_cells(found: Forecast) -> tuple[str, ...]:
    candidate, plan = found.candidate, found.plan
    origin = NEEDS_IMATRIX if candidate.needs_imatrix else candidate.origin
    start = (candidate.level, gib(candidate.size_bytes), origin, fits(found))
    if plan is None:
        return (*start, "-", "-", "-", "-", "-")
    on_gpus = sum(share.total_bytes for share in plan.gpus)
    in_ram = plan.host.total_bytes
    sizes = (gib(on_gpus) if on_gpus else "-", gib(in_ram))
    return (*start, *sizes, plan.kv_type, str(plan.n_ctx), _speed(found) or "-")


def fits(found: Forecast) -> str:
    """How a level fits: whole on GPUs, some layers, on the CPU alone, or not."""
    plan = found.plan
    if plan is None:
        return "no"
    if plan.n_gpu_layers == 0:
        return "on the CPU"
    if plan.n_gpu_layers == plan.n_layers:
        return "whole"
    return f"{plan.n_gpu_layers} of {plan.n_layers} layers"


def _speed(found: Forecast) -> str:
    """Two digits: more would say too much."""
    speed = found.tokens_per_s or 0
    if speed < 9.95:
        return f"{speed:.1f}" if speed else ""
    return f"{float(f'{speed:.2g}'):.0f}"


def _device_cells(share: Share) -> tuple[str, ...]:
    sizes = (share.weights_bytes, share.kv_bytes, share.compute_bytes, share.total_bytes)
    return (
        share.device,
        str(share.n_layers),
        *map(gib, sizes),
        gib(share.free_bytes),
        _bar(share),
    )


def _bar(share: Share) -> str:
    """How much of what is free is taken."""
    part = share.total_bytes / share.free_bytes if share.free_bytes else 1.0
    full = min(BAR_WIDTH, round(part * BAR_WIDTH))
    return f"{'█' * full}{'░' * (BAR_WIDTH - full)} {part:4.0%}"


def as_data(view: View) -> dict[str, Any]:
    """The same as plain data, for ``--json``: sizes in bytes, bandwidths in bytes per second."""
    machine, speeds = view.setup.machine, view.setup.speeds
    return {
        "model": view.model,
        "chosen": view.chosen.candidate.level if view.chosen else None,
        "levels": [_as_data(found) for found in view.forecasts],
        "machine": {
            "ram": {**vars(machine.ram), **_speed_data(speeds, "CPU")},
            "gpus": [{**vars(gpu), **_speed_data(speeds, gpu.name)} for gpu in machine.gpus],
        },
        "estimate": FORMULA,
    }


def _speed_data(speeds: Mapping[str, Speed], device: str) -> dict[str, Any]:
    speed = speeds[device]
    return {"bandwidth": round(speed.bytes_per_s), "bandwidth_known_by": speed.known_by}


def _as_data(found: Forecast) -> dict[str, Any]:
    candidate, plan, speed = found.candidate, found.plan, found.tokens_per_s
    told: dict[str, Any] = {
        "level": candidate.level,
        "origin": candidate.origin,
        "needs_imatrix": candidate.needs_imatrix,
        "size_bytes": candidate.size_bytes,
        "fits": fits(found),
        "tokens_per_s": float(f"{speed:.3g}") if speed else None,
    }
    if plan is None:
        return {**told, "refusal": found.refusal}
    return {**told, **_plan_data(plan)}


def _plan_data(plan: OffloadPlan) -> dict[str, Any]:
    shares = [{**vars(share), "total_bytes": share.total_bytes} for share in plan.shares]
    return {**vars(plan), "advice": list(plan.advice), "shares": shares}
