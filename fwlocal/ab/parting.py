"""Where two texts that grow at the same time part: each piece is let out once that is known of it.

A piece is held back until the other text is as long, so that the first one that differs is marked
in both. It knows pieces of text, and neither models nor screens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A piece of one side's text (0 or 1) that may be shown; ``marked``: the first that differs."""

    side: int
    text: str
    marked: bool = False


class Parting:
    """Two texts, fed piece by piece. ``difference`` is the index of the first character that is not
    the same, the end of the shorter one included; None while, or if, there is none. ``marked`` are
    the pieces that it lies in, "" for a text that ends there."""

    def __init__(self) -> None:
        self.texts = ["", ""]
        self.difference: int | None = None
        self.marked = ["", ""]
        self._held: tuple[deque[str], ...] = (deque(), deque())
        self._n_shown = [0, 0]  # characters
        self._n_compared = 0
        self._ended = [False, False]
        self._cut = [False, False]

    def holds(self, side: int) -> bool:
        """Whether some of a side's text may not be shown yet."""
        return bool(self._held[side])

    def add(self, side: int, piece: str) -> list[Shown]:
        """A piece of one side; what may be shown now, of both."""
        self.texts[side] += piece
        self._held[side].append(piece)
        return self._released()

    def end(self, side: int, *, cut: bool = False) -> list[Shown]:
        """One side ends; where it was ``cut`` short, that is no difference from the other."""
        self._ended[side], self._cut[side] = True, cut
        return self._released()

    def _released(self) -> list[Shown]:
        if self.difference is None:
            self._compare()
        return [*self._free(0), *self._free(1)]

    def _compare(self) -> None:
        """Look on from where both were the same."""
        start, upto = self._n_compared, min(map(len, self.texts))
        left, right = (text[start:upto] for text in self.texts)
        if left != right:
            same = (
                index for index, pair in enumerate(zip(left, right, strict=True)) if _part(pair)
            )
            self.difference = start + next(same)
            return
        self._n_compared = upto
        for side, text in enumerate(self.texts):
            is_over = self._ended[side] and not self._cut[side]
            if is_over and len(self.texts[1 - side]) > len(text):
                self.difference = len(text)

    def _free(self, side: int) -> Iterator[Shown]:
        """The pieces of a side whose mark is known."""
        held, other = self._held[side], 1 - side
        while held:
            start = self._n_shown[side]
            end = start + len(held[0])
            if self.difference is None and end > len(self.texts[other]) and not self._ended[other]:
                return
            marked = self.difference is not None and start <= self.difference < end
            piece = held.popleft()
            self._n_shown[side] = end
            if marked:
                self.marked[side] = piece
            yield Shown(side, piece, marked)


def _part(pair: tuple[str, str]) -> bool:
    return pair[0] != pair[1]
