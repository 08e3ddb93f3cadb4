"""Where labels go in a picture: beside their points, over nothing else. Pure; in pixels.

Each label in turn takes the first place around its point, near ones first, at which neither it nor
the line to it covers another label, a point, an error bar or a line, and which is inside; where
there is none, the one that covers the least. The same input gives the same places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]

GAP = 7.0  # from a point to its label
STEP = 7.0  # from one ring of places to the next
RINGS = 14
NEAR = GAP + STEP  # a label farther off has a line to its point
OUTSIDE = 50.0  # how much worse a pixel outside is than one that is covered
LINE = 4.0  # how wide lines are taken for
# East, west, north and south come first; then what lies between.
ANGLES = tuple(math.radians(angle) for angle in (0, 180, 90, 270, *range(15, 360, 15)))


@dataclass(frozen=True)
class Box:
    """A rectangle, from its lower left corner."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        up = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return across * up if across > 0 and up > 0 else 0.0

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of it that is nearest to another."""
        return (
            min(max(x, self.x), self.x + self.width),
            min(max(y, self.y), self.y + self.height),
        )

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.width * self.height


@dataclass(frozen=True)
class Wanted:
    """A label of this size, for the point at (x, y)."""

    x: float
    y: float
    width: float
    height: float

    def line_to(self, box: Box) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """The line from its point to where it is; None where it is near."""
        end_x, end_y = box.nearest(self.x, self.y)
        far = math.hypot(end_x - self.x, end_y - self.y)
        if far <= NEAR:
            return None
        share = GAP / far  # it begins beside the point's mark
        start = self.x + share * (end_x - self.x), self.y + share * (end_y - self.y)
        return start, (end_x, end_y)


def place(labels: Sequence[Wanted], taken: Sequence[Box], bounds: Box) -> list[Box]:
    """A place for each of the labels, best not on ``taken`` and not outside ``bounds``."""
    obstacles, places = list(taken), []
    for label in labels:
        best = _best(label, _as_rows(obstacles), bounds)
        places.append(best)
        obstacles += [best, *_line(label, best)]
    return places


def along(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Small boxes that cover a line."""
    (x, y), (end_x, end_y) = start, end
    n_boxes = 1 + int(max(abs(end_x - x), abs(end_y - y)) / LINE)
    shares = [step / n_boxes for step in range(n_boxes)]
    corners = [(x + share * (end_x - x), y + share * (end_y - y)) for share in shares]
    return [Box(left - LINE / 2, low - LINE / 2, LINE, LINE) for left, low in corners]


def _best(label: Wanted, obstacles: Rows, bounds: Box) -> Box:
    least, best = math.inf, Box(label.x, label.y, label.width, label.height)
    for ring in range(RINGS):
        candidates = _ring(label, GAP + ring * STEP)
        costs = _costs(label, candidates, obstacles, bounds)
        index = int(np.argmin(costs))
        if costs[index] < least:
            least, best = float(costs[index]), candidates[index]
        if least == 0:
            break
    return best


def _ring(label: Wanted, gap: float) -> list[Box]:
    """All around the point, at this distance."""
    width, height = label.width, label.height
    return [
        Box(
            label.x + math.cos(angle) * (gap + width / 2) - width / 2,
            label.y + math.sin(angle) * (gap + height / 2) - height / 2,
            width,
            height,
        )
        for angle in ANGLES
    ]


def _line(label: Wanted, box: Box) -> list[Box]:
    line = label.line_to(box)
    return along(*line) if line else []


def _costs(label: Wanted, boxes: Sequence[Box], obstacles: Rows, bounds: Box) -> Rows:
    """What each and its line cover, and, far worse, what of it is outside."""
    outside = np.array([box.area - box.overlap(bounds) for box in boxes])
    parts = [[box, *_line(label, box)] for box in boxes]
    covered = _covered(_as_rows([box for some in parts for box in some]), obstacles)
    starts = np.cumsum([0, *(len(some) for some in parts[:-1])])
    costs: Rows = np.add.reduceat(covered, starts) + OUTSIDE * np.where(outside > 1, outside, 0)
    return costs


def _covered(boxes: Rows, obstacles: Rows) -> Rows:
    """How much of the obstacles each of the boxes covers, in square pixels."""
    low = np.maximum(boxes[:, None, :2], obstacles[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], obstacles[None, :, 2:])
    covered: Rows = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
    return covered


def _as_rows(boxes: Sequence[Box]) -> Rows:
    """Left, low, right and high ends."""
    ends = [(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes]
    return np.array(ends, dtype=np.float64).reshape(-1, 4)
