"""What evaluating takes, in units of a single token's decode. Pure.

The lower medians of the last readings, so that a machine that slept, or a clock that jumped, does
not count. Batches are kept as ratios to a single decode at that time: the context grows, and
processors slow down, which leaves ratios much as they are.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping

_READINGS = 9
_STALE = 200  # readings of anything, after which one is believed by half again
_WORST_ROW = 1.2  # a batch that was not measured takes no longer than this for each row
_ENOUGH_READINGS = 3  # the first ones after a load are slow
# Where hardly any token is decoded alone, and others have left the machine since one was, batches
# seem cheap: at such a part of their usual cost, or after so many, a token alone is measured again.
_SUSPECT_SHARE, _MOST_BATCHES = 0.8, 50


class _Typical:
    """The median of the last few readings, None before the first."""

    def __init__(self) -> None:
        self._readings: deque[float] = deque(maxlen=_READINGS)
        self.value: float | None = None

    @property
    def n_readings(self) -> int:
        return len(self._readings)

    def note(self, reading: float) -> None:
        if reading > 0:
            self._readings.append(reading)
            self.value = statistics.median_low(self._readings)


class Costs:
    """``row_cost`` is what each row after the first costs before it was measured: 0 where a batch
    takes no longer than a token, 1 where it takes as long as its tokens one by one. ``known`` are
    batches, by their rows, that another process measured."""

    def __init__(self, row_cost: float, known: Mapping[int, float] | None = None) -> None:
        self._row_cost, self._known = row_cost, dict(known or {})
        self._single = _Typical()
        self._batches: dict[int, _Typical] = {}
        self._drafts: dict[str, _Typical] = {}
        self._n_notes = 0
        self._noted_at: dict[int, int] = {}
        self._n_batches = 0  # since a token was decoded alone
        self.is_suspect = False  # what a token alone takes should be measured again

    @property
    def single_s(self) -> float | None:
        """Seconds that decoding one token takes; None before that is known."""
        return self._single.value if self._single.n_readings >= _ENOUGH_READINGS else None

    @property
    def measured(self) -> dict[int, float]:
        """What is sure enough of batches, by their rows, for another process to know."""
        return {
            rows: found.value
            for rows, found in self._batches.items()
            if found.value is not None and found.n_readings >= _ENOUGH_READINGS
        }

    def note_single(self, seconds: float) -> None:
        """One token was decoded."""
        self._n_notes += 1
        before = self._single.value
        if self.is_suspect and before is not None and 0 < seconds < _SUSPECT_SHARE * before:
            self._single, self._batches = _Typical(), {}
        self.is_suspect, self._n_batches = False, 0
        self._single.note(seconds)

    def note_batch(self, rows: int, seconds: float) -> None:
        """So many rows were evaluated at once."""
        self._n_notes += 1
        self._noted_at[rows] = self._n_notes
        if self.single_s is None:
            return
        ratio, found = seconds / self.single_s, self._batches.setdefault(rows, _Typical())
        usual = max(found.value or 1.0, 1.0)  # no batch takes less than a token
        self._n_batches += 1
        self.is_suspect |= ratio < _SUSPECT_SHARE * usual or self._n_batches > _MOST_BATCHES
        found.note(ratio)

    def note_draft(self, kind: str, n_tokens: int, seconds: float) -> None:
        """So many tokens were drafted."""
        if n_tokens:
            self._drafts.setdefault(kind, _Typical()).note(seconds / n_tokens)

    def batch(self, rows: int) -> float:
        """Of so many rows at once; where it was not measured, as it is known, or from the widest
        narrower batch that was, with further rows as cheap as its."""
        cost, per_row, known = 1.0, self._row_cost, 1
        for width in sorted(n for n in {*self._batches, *self._known} if n <= rows):
            guess = self._known.get(width, cost + per_row * (width - known))
            cost = self._believed(width, guess)
            per_row = min(self._row_cost, max((cost - 1) / (width - 1), 0))
            known = width
        return cost + per_row * (rows - known)

    def _believed(self, width: int, guess: float) -> float:
        """What was measured; by half, and the guess, where that are the first readings, any of
        which may be an accident, or old ones that speak against this width: what was too slow once
        is not for ever."""
        found = self._batches.get(width)
        if found is None or found.value is None:
            return guess
        is_fresh = self._n_notes - self._noted_at[width] < _STALE
        is_sure = found.n_readings >= _ENOUGH_READINGS and (is_fresh or found.value <= guess)
        return found.value if is_sure else (guess + found.value) / 2

    def worst_batch(self, rows: int) -> float:
        """The same where one had better be careful: as long as it might take."""
        known = max((n for n in {*self._batches, *self._known} if n <= rows), default=1)
        found = self._batches.get(known)
        measured = found.value if found is not None and found.value is not None else 1.0
        return max(measured, self.batch(known)) + _WORST_ROW * (rows - known)

    def draft(self, kind: str) -> float | None:
        """Of one drafted token, None before one was."""
        found = self._drafts.get(kind)
        if found is None or found.value is None or self.single_s is None:
            return None
        return found.value / self.single_s
