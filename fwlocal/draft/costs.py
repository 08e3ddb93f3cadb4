"""What evaluating takes, in units of a single token's decode. Pure.

Medians of the last readings, so that a machine that slept, or a clock that jumped, does not count.
Batches are kept as ratios to a single decode at that time: the context grows, and processors slow
down, which leaves ratios much as they are.
"""

from __future__ import annotations

import statistics
from collections import deque

_READINGS = 9
_STALE = 200  # readings of anything, after which one is believed by half again
_WORST_ROW = 1.2  # a batch that was not measured takes no longer than this for each row
_ENOUGH_READINGS = 3  # the first ones after a load are slow


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
            self.value = statistics.median(self._readings)


class Costs:
    """``row_cost`` is what each row after the first costs before it was measured: 0 where a batch
    takes no longer than a token, 1 where it takes as long as its tokens one by one."""

    def __init__(self, row_cost: float) -> None:
        self._row_cost = row_cost
        self._single = _Typical()
        self._batches: dict[int, _Typical] = {}
        self._drafts: dict[str, _Typical] = {}
        self._n_notes = 0
        self._noted_at: dict[int, int] = {}

    @property
    def single_s(self) -> float | None:
        """Seconds that decoding one token takes; None before that is known."""
        return self._single.value if self._single.n_readings >= _ENOUGH_READINGS else None

    def note_single(self, seconds: float) -> None:
        """One token was decoded."""
        self._n_notes += 1
        self._single.note(seconds)

    def note_batch(self, rows: int, seconds: float) -> None:
        """So many rows were evaluated at once."""
        self._n_notes += 1
        self._noted_at[rows] = self._n_notes
        if self.single_s is not None:
            self._batches.setdefault(rows, _Typical()).note(seconds / self.single_s)

    def note_draft(self, kind: str, n_tokens: int, seconds: float) -> None:
        """So many tokens were drafted."""
        if n_tokens:
            self._drafts.setdefault(kind, _Typical()).note(seconds / n_tokens)

    def batch(self, rows: int) -> float:
        """Of so many rows at once; where it was not measured, from the widest narrower batch that
        was, with further rows as cheap as its. The first readings, any of which may be an accident,
        and old ones are believed by half."""
        known = max((n for n in self._batches if n <= rows), default=1)
        expected, per_row = 1 + self._row_cost * (known - 1), self._row_cost
        found = self._batches.get(known)
        if found is not None and found.value is not None:
            is_fresh = self._n_notes - self._noted_at[known] < _STALE
            is_sure = is_fresh and found.n_readings >= _ENOUGH_READINGS
            expected = found.value if is_sure else (expected + found.value) / 2
            per_row = min(per_row, max((expected - 1) / (known - 1), 0))
        return expected + per_row * (rows - known)

    def worst_batch(self, rows: int) -> float:
        """The same where one had better be careful: as long as it might take."""
        found = self._batches.get(rows)
        if found is not None and found.value is not None:
            return max(found.value, self.batch(rows))
        known = max((n for n in self._batches if n < rows), default=1)
        base = self.batch(known) if known > 1 else 1.0
        return base + _WORST_ROW * (rows - known)

    def draft(self, kind: str) -> float | None:
        """Of one drafted token, None before one was."""
        found = self._drafts.get(kind)
        if found is None or found.value is None or self.single_s is None:
            return None
        return found.value / self.single_s
