"""Forecasts as plain data, for ``fwlocal plan --json``; names tell the units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fwlocal.forecast.cards import Speed
from fwlocal.forecast.estimate import HOST, Draft, Forecast, choose
from fwlocal.forecast.view import View, in_order
from fwlocal.forecast.wording import FORMULA, fits
from fwlocal.offload import OffloadPlan


def as_data(view: View) -> dict[str, Any]:
    """All that is shown; ``best`` is the level to take, ``chosen`` the one that was asked for or
    that is on this disk."""
    ram, speeds = view.setup.machine.ram, view.setup.speeds
    best = choose(view.forecasts).first
    return {
        "model": view.model,
        "best": best.candidate.level if best else None,
        "chosen": view.chosen.candidate.level if view.chosen else None,
        "levels": [_level(found) for found in view.forecasts],
        "machine": {
            "ram": {**vars(ram), **_bandwidth(speeds, HOST)},
            "gpus": [{**vars(gpu), **_bandwidth(speeds, gpu.name)} for gpu in view.setup.gpus],
        },
        "estimate": FORMULA,
    }


def _bandwidth(speeds: Mapping[str, Speed], device: str) -> dict[str, Any]:
    """None where it is not known."""
    speed = speeds.get(device)
    return {
        "bandwidth_bytes_per_s": round(speed.bytes_per_s) if speed else None,
        "bandwidth_known_by": speed.known_by if speed else None,
    }


def _level(found: Forecast) -> dict[str, Any]:
    candidate, speed = found.candidate, found.tokens_per_s
    told: dict[str, Any] = {
        "level": candidate.level,
        "origin": candidate.origin,
        "needs_imatrix": candidate.needs_imatrix,
        "size_bytes": candidate.size_bytes,
        "fits": fits(found),
        "fits_whole": found.is_whole,
        "tokens_per_s": float(f"{speed:.3g}") if speed else None,
    }
    if found.plan is None:
        return {**told, "refusal": found.refusal}
    draft = {"draft": _draft(found.draft)} if found.draft is not None else {}
    return {**told, **_plan(found.plan), **draft}


def _draft(draft: Draft) -> dict[str, Any]:
    told = {"model": draft.candidate.called, "level": draft.candidate.level}
    if draft.plan is None:
        return {**told, "refusal": draft.refusal}
    return {**told, **_plan(draft.plan)}


def _plan(plan: OffloadPlan) -> dict[str, Any]:
    shares = [{**vars(share), "total_bytes": share.total_bytes} for share in in_order(plan)]
    return {**vars(plan), "advice": list(plan.advice), "shares": shares}
