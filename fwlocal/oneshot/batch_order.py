"""Answers come as they end and go out in the order they were asked for. Pure."""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, TypeVar

AHEAD = 4  # times as many as run at once may wait for the oldest to end

Item = TypeVar("Item")


class InOrder(Generic[Item]):
    """Holds what came before its turn; at most ``AHEAD`` times ``n_parallel`` may be begun beyond
    the oldest that has not ended."""

    def __init__(self, n_parallel: int) -> None:
        self._most = AHEAD * n_parallel
        self._held: dict[int, Item] = {}
        self._next = 0

    @property
    def n_out(self) -> int:
        """How many went out."""
        return self._next

    def may_begin(self, index: int) -> bool:
        """Whether number ``index``, from 0, is not too far ahead."""
        return index < self._next + self._most

    def put(self, index: int, item: Item) -> Generator[Item, None, None]:
        """What may go out now that ``item`` is there."""
        self._held[index] = item
        while self._next in self._held:
            ready = self._held.pop(self._next)
            self._next += 1
            yield ready
