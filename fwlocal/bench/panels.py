"""What a plot shows, before anything is drawn: which levels, where, by which marks, and the
ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fwlocal.bench.columns import test_heading
from fwlocal.bench.result import BenchResult, LevelResult
from fwlocal.bench.verdict import decode_speed
from fwlocal.sizes import GIB, MIB

LEAST, MOST = 1e-12, 1e12  # what is below is drawn as 0; what is above is a mistake, and left out
BELOW = 2.5  # a divergence of 0 stands where the least one, divided by this, would
LOWEST_BAR = 0.9  # of a figure on a log axis: its error bar must end above 0
MANY = 1e3  # on a wider axis the powers of ten are enough
LONGEST_NAME = 16  # on an axis
ALONE = 1e-3  # where no divergence is above 0


@dataclass(frozen=True)
class Point:
    """A level at ``size`` on the one axis and ``value`` on the other, and how far its error bar
    reaches down and up."""

    level: LevelResult
    size: float
    value: float
    down: float = 0.0
    up: float = 0.0


@dataclass(frozen=True)
class Panel:
    """Points against the size of the file. ``zero`` is where 0 is drawn on a log axis, or None."""

    title: str
    axis: str
    points: tuple[Point, ...]
    is_log: bool = False
    zero: float | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the axis, with room for labels."""
        low = min(point.value - point.down for point in self.points)
        high = max(point.value + point.up for point in self.points)
        if self.is_log:
            return low / 1.7, high * 1.9
        room = 0.14 * (high - low) or 0.1 * abs(high) or 1.0
        return low - room, high + room

    @property
    def ticks(self) -> dict[float, str]:
        """The labels of a log axis, by their places."""
        low, high = self.limits
        steps = (1,) if high / low > MANY else (1, 2, 5)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        places = (step * 10.0**power for power in powers for step in steps)
        first = low if self.zero is None else 1.4 * self.zero
        ticks = {place: f"{place:g}" for place in places if first <= place <= high}
        return ticks if self.zero is None else {self.zero: "0", **ticks}


@dataclass(frozen=True)
class Mark:
    """How a level is drawn, and what the legend calls it."""

    told: str
    shape: str
    fill: str


FRONT = Mark("on the Pareto front", "o", "black")
OTHER = Mark("not on it", "o", "white")
REFERENCE = Mark("the reference", "s", "white")
REFERENCE_ON_FRONT = Mark("the reference, on it", "s", "black")
REFERENCE_OFF_FRONT = Mark("the reference, not on it", "s", "white")
LEVEL = Mark("a level", "o", "white")  # where there is no front


ORDER = (FRONT, OTHER, LEVEL, REFERENCE_ON_FRONT, REFERENCE_OFF_FRONT, REFERENCE)


def panels_of(result: BenchResult) -> list[Panel]:
    """Those that there are measures for."""
    levels = [level for level in result.levels if not level.problem]
    found = (_divergence(result, levels), _speed(levels))
    return [panel for panel in found if panel is not None]


def unit_of(levels: Iterable[LevelResult]) -> tuple[float, str]:
    """The unit that sizes are drawn in: its bytes and its name."""
    large = max((level.size_bytes for level in levels), default=0) >= GIB
    return (GIB, "GiB") if large else (MIB, "MiB")


def mark_of(level: LevelResult, result: BenchResult) -> Mark:
    """Filled is who is on the front, a square the reference."""
    front = result.verdict.front
    if not front:
        return REFERENCE if level.is_reference else LEVEL
    if level.is_reference:
        return REFERENCE_ON_FRONT if level.label in front else REFERENCE_OFF_FRONT
    return FRONT if level.label in front else OTHER


def _divergence(result: BenchResult, levels: Sequence[LevelResult]) -> Panel | None:
    scale, _ = unit_of(levels)
    found = {
        level.label: (level, level.quality.kld_mean)
        for level in levels
        if level.quality is not None and abs(level.quality.kld_mean.value) <= MOST
    }
    if all(level.is_reference for level, _ in found.values()):
        return None
    above = [mean.value for _, mean in found.values() if mean.value > LEAST]
    zero = min(above, default=ALONE) / BELOW
    points = []
    for level, mean in found.values():
        size, se = level.size_bytes / scale, _sound(mean.se)
        if mean.value > LEAST:
            points.append(Point(level, size, mean.value, min(se, LOWEST_BAR * mean.value), se))
        else:
            points.append(Point(level, size, zero))
    is_zero = len(above) < len(points)
    reference = result.reference or "the reference"
    named = reference if len(reference) <= LONGEST_NAME else "the reference"
    axis = f"mean KLD from {named}, nats (± standard error)"
    return Panel("Divergence", axis, tuple(points), True, zero if is_zero else None)


def _speed(levels: Sequence[LevelResult]) -> Panel | None:
    scale, _ = unit_of(levels)
    points, names = [], []
    for level in levels:
        speed = decode_speed(level)
        if speed is not None and all(abs(tps) <= MOST for tps in speed.tps):
            (low, high), middle = speed.spread, speed.median
            point = Point(level, level.size_bytes / scale, middle, middle - low, high - middle)
            points.append(point)
            names.append(test_heading(speed.test))
    axis = f"{' and '.join(dict.fromkeys(names))}, tok/s (median, slowest to fastest)"
    return Panel("Decoding", axis, tuple(points)) if points else None


def _sound(se: float | None) -> float:
    return se if se is not None and 0 <= se <= MOST else 0.0
