"""``fwlocal plan``: forecasts as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fwlocal.forecast.estimate import NO_LEVEL, Draft, Forecast, choose
from fwlocal.forecast.what_if import Setup, by_name
from fwlocal.forecast.wording import FORMULA, MARK, fits, speed, verdict
from fwlocal.offload import OffloadPlan, Share, in_place_of_layers, may_pay
from fwlocal.sizes import gib
from fwlocal.tables import Column, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

NEEDS_IMATRIX = "imatrix"
IMATRIX_NOTE = f"{NEEDS_IMATRIX}: to be converted with an importance matrix (--imatrix)"
DRAFT_NOTE = "draft: {} is placed first where both fit; tok/s is without what it may bring"
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
    Column(""),  # the mark
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


@dataclass(frozen=True)
class LevelTable(Table):
    """A table with one row in bold: ``best``, by its index."""

    best: int | None = None

    def _grid(self, widths: Mapping[int, int]) -> Grid:
        grid = super()._grid(dict(widths))
        if self.best is not None:
            grid.rows[self.best].style = "bold"
        return grid


def in_order(plan: OffloadPlan) -> list[Share]:
    """Its shares as they are shown: by the devices' names, the CPU last."""
    return sorted(plan.shares, key=lambda share: by_name(share.device))


def show(view: View, console: Console) -> None:
    """The table of the levels where there are several, then the chosen one in detail, then what
    the figures rest on."""
    if len(view.forecasts) > 1:
        _level_table(view.forecasts).show(console)
        _say(console, "", verdict(view.forecasts))
    if view.chosen is not None and view.chosen.plan is not None:
        if len(view.forecasts) > 1:
            _say(console, "")
        _show_detail(view.model, view.chosen, view.chosen.plan, console)
    elif view.chosen is not None:
        _say(console, view.chosen.refusal)
    needy = any(found.candidate.needs_imatrix for found in view.forecasts)
    drafts = (found.draft for found in view.forecasts if found.draft is not None)
    placed = next((draft.candidate.called for draft in drafts if draft.plan is not None), None)
    notes = (
        *view.setup.in_words(),
        FORMULA,
        *([DRAFT_NOTE.format(placed)] if placed else []),
        *([IMATRIX_NOTE] if needy else []),
    )
    _say(console, "", *notes, dim=True)


def _show_detail(model: str, found: Forecast, plan: OffloadPlan, console: Console) -> None:
    if found.draft is not None:
        _show_draft(found.draft, console)
    told = f", about {speed(found)} tok/s" if speed(found) else ""
    level = found.candidate.level
    named = f"{model}:{level}" if level != NO_LEVEL else model
    _say(console, f"{named}, context {plan.n_ctx}, KV cache {plan.kv_type}{told}")
    _device_table(plan).show(console)
    _say(console, plan.reason, *plan.advice)
    if found.alone is not None and not may_pay(found.alone, plan):
        _say(console, in_place_of_layers(found.alone, plan, is_asked=True))


def _show_draft(draft: Draft, console: Console) -> None:
    """Before the model, as it is placed: what the model has free is what it leaves."""
    plan = draft.plan
    if plan is None:
        _say(console, draft.refusal, "")
        return
    named = draft.candidate.called
    _say(console, f"draft: {named}, context {plan.n_ctx}, KV cache {plan.kv_type}")
    _device_table(plan).show(console)
    _say(console, "")


def _device_table(plan: OffloadPlan) -> Table:
    return Table(DEVICE_COLUMNS, [_device_cells(share) for share in in_order(plan)])


def _say(console: Console, *lines: str, dim: bool = False) -> None:
    """Lines of text, broken between words on a terminal and whole in a pipe."""
    from rich.text import Text

    from fwlocal.terminal import inert

    for line in lines:
        text = Text(inert(line), style="dim" if dim else "")
        console.print(text, soft_wrap=not console.is_terminal)


def _level_table(forecasts: Sequence[Forecast]) -> LevelTable:
    best = choose(forecasts).first
    rows = [(*_level_cells(found), MARK if found is best else "") for found in forecasts]
    marked = next((index for index, found in enumerate(forecasts) if found is best), None)
    return LevelTable(LEVEL_COLUMNS, rows, marked)


def _level_cells(found: Forecast) -> tuple[str, ...]:
    candidate, plan = found.candidate, found.plan
    origin = NEEDS_IMATRIX if candidate.needs_imatrix else candidate.origin
    start = (candidate.level, gib(candidate.size_bytes), origin, fits(found))
    if plan is None:
        return (*start, "-", "-", "-", "-", "-")
    on_gpus = sum(share.total_bytes for share in plan.gpus)
    in_ram = plan.host.total_bytes
    sizes = (gib(on_gpus) if on_gpus else "-", gib(in_ram))
    return (*start, *sizes, plan.kv_type, str(plan.n_ctx), speed(found) or "-")


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
