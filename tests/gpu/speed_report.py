"""How fast a model was alone and with forced drafts, as data that crosses processes, and as
Markdown tables. It loads nothing of llama.cpp."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.gpu.report import row

GOAL_TPS = 46  # twice the seed's 23 tok/s, without a draft
AS_IT_DECIDES = 0  # for a number of drafted tokens
PLAIN_COLUMNS = ("", "tok/s (spread)", "share of the bandwidth limit (spread)", "goal")
FORCED_COLUMNS = (
    "forced acceptance",
    "drafted at a time",
    "accepted",
    "tok/s (spread)",
    "ratio to plain (spread)",
    "predicted",
    "off",
)


@dataclass(frozen=True)
class ForcedSpeed:
    """One acceptance and one draft length, or AS_IT_DECIDES. ``tps``, ``ratios`` (to the plain
    answer of the same turn) and ``predicted`` (of that ratio) have a number for each round.
    ``mean_drafted`` and ``accepted``, of the drafted tokens whose fate is known, are those of all
    rounds; None where nothing was drafted."""

    acceptance: float
    n_drafted: int
    tps: tuple[float, ...]
    ratios: tuple[float, ...]
    predicted: tuple[float, ...]
    mean_drafted: float | None
    accepted: float | None


@dataclass(frozen=True)
class Speeds:
    """Tokens per second, a number for each answer."""

    prefill_tps: tuple[float, ...]
    decode_tps: tuple[float, ...]
    forced: tuple[ForcedSpeed, ...]

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Speeds:
        """What ``to_json`` wrote."""
        fields = json.loads(text)
        forced = tuple(ForcedSpeed(**_frozen(one)) for one in fields["forced"])
        return cls(tuple(fields["prefill_tps"]), tuple(fields["decode_tps"]), forced)


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and from where to where."""
    numbers = (statistics.median(values), min(values), max(values))
    middle, least, most = (f"{number:.{digits}f}" for number in numbers)
    return f"{middle} ({least} to {most})"


def plain_table(speeds: Speeds, n_prefill: int, limit_tps: float | None) -> Iterator[str]:
    """Without a draft; ``limit_tps`` is what the memory's bandwidth allows, None if unknown."""
    yield row(PLAIN_COLUMNS)
    yield row(["---"] * len(PLAIN_COLUMNS))
    yield row([f"prefill of {n_prefill} tokens", spread(speeds.prefill_tps, 1), "", ""])
    shares = [tps / limit_tps for tps in speeds.decode_tps] if limit_tps else []
    share = f"{spread(shares, 3)} of {limit_tps:.1f} tok/s" if shares else "?"
    is_met = statistics.median(speeds.decode_tps) >= GOAL_TPS
    goal = f"≥ {GOAL_TPS} tok/s{'' if is_met else ', missed'}"
    yield row(["decode", spread(speeds.decode_tps, 2), share, goal])


def forced_table(forced: Sequence[ForcedSpeed]) -> Iterator[str]:
    """With the draft, a line for each acceptance and length."""
    yield row(FORCED_COLUMNS)
    yield row(["---"] * len(FORCED_COLUMNS))
    yield from map(_forced_row, forced)


def _forced_row(one: ForcedSpeed) -> str:
    mean = "nothing" if one.mean_drafted is None else f"{one.mean_drafted:.1f}"
    length = str(one.n_drafted) if one.n_drafted else f"as it decides: {mean}"
    pairs = zip(one.ratios, one.predicted, strict=True)
    off = statistics.median(ratio / predicted for ratio, predicted in pairs) - 1
    return row(
        [
            f"{one.acceptance:g}",
            length,
            "" if one.accepted is None else f"{one.accepted:.2f}",
            spread(one.tps, 2),
            spread(one.ratios, 2),
            f"{statistics.median(one.predicted):.2f}",
            f"{off:+.0%}",
        ]
    )
