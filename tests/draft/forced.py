"""A controller that drafts as many as it is told, for when it is not about time."""

from __future__ import annotations

from collections.abc import Sequence

from fwlocal.draft import Controller, Kind


class Forced(Controller):
    """Always drafts for ``n_rows`` rows; without a number, for as many as may be."""

    def __init__(self, n_rows: int | None = None) -> None:
        super().__init__()
        self._n_forced = n_rows

    def n_to_draft(self, kind: Kind, widths: Sequence[int]) -> int:
        return max(self._fitting(widths), default=1) - 1

    def n_rows(self, kind: Kind, n_drafted: int, widths: Sequence[int]) -> int:
        fitting = self._fitting(widths)
        return min((n for n in fitting if n > n_drafted), default=max(fitting, default=1))

    def _fitting(self, widths: Sequence[int]) -> list[int]:
        return [n for n in widths if self._n_forced is None or n <= self._n_forced]
