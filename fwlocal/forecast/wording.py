"""Forecasts in words: how a level fits, how fast it is, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence

from fwlocal.forecast.estimate import CONVERTED, EFFICIENCY, ON_DISK, PUBLISHED, Forecast, choose
from fwlocal.offload import OffloadPlan

MARK = "*"  # of the level to take, also where nothing is bold
FORMULA = (
    f"tok/s: an estimate, {EFFICIENCY:g} x bandwidth / bytes read per token (context half full)"
)
_ORIGINS = {ON_DISK: "on this disk", PUBLISHED: "ready-made", CONVERTED: "once converted"}


def fits(found: Forecast) -> str:
    """How a level fits: whole on GPUs, some layers, on the CPU alone, or not; and whether it must
    go without the draft."""
    goes_without = found.draft is not None and found.draft.plan is None
    return f"{_where(found.plan)}{', no draft' if goes_without else ''}"


def _where(plan: OffloadPlan | None) -> str:
    if plan is None:
        return "no"
    if plan.n_gpu_layers == 0:
        return "on the CPU"
    if plan.n_gpu_layers == plan.n_layers:
        return "whole"
    return f"{plan.n_gpu_layers} of {plan.n_layers} layers"


def speed(found: Forecast) -> str:
    """Two digits: more would say too much. "" for one that is not known."""
    value = found.tokens_per_s or 0
    if value < 9.95:
        return f"{value:.1f}" if value else ""
    return f"{float(f'{value:.2g}'):.0f}"


def verdict(forecasts: Sequence[Forecast]) -> str:
    """Which level to take, in a sentence that begins with the mark of its row."""
    choice = choose(forecasts)
    if choice.first is None:
        return "no level fits"
    first = choice.first
    said = f"{MARK} {_origin(first)}, {first.candidate.level} fits best: {_how(first)}"
    if choice.now is None or choice.later is None:
        return said
    later = choice.later
    return f"{said}; {_origin(later)}, {later.candidate.level}: {_how(later)}"


def _origin(found: Forecast) -> str:
    matrix = " with --imatrix" if found.candidate.needs_imatrix else ""
    return f"{_ORIGINS[found.candidate.origin]}{matrix}"


def _how(found: Forecast) -> str:
    told = speed(found)
    return f"{fits(found)}, about {told} tok/s" if told else fits(found)
