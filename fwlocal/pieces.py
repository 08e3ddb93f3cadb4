"""From a token's bytes to text that may be shown: whole characters, and nothing of a stop string.

A token may end inside a character, and a stop string may begin inside one token and end inside
another; what could still become either is held back until it is decided.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class PieceStream:
    """Feed it bytes; it returns the text that is certain.

    A stop string of a newline and more also matches at the very start, since a prompt format ends
    its scaffold with one. Once ``stopped`` is true the rest is dropped.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        if not all(stop):
            raise ValueError("a stop string is empty")
        self.stop = tuple(stop)
        self.stopped = False
        self._openings = frozenset(text[0] for text in self.stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # The text not yet certain; it starts with a newline that is matched but never shown.
        self._held = "\n" if any(_opens_a_line(text) for text in self.stop) else ""
        self._unshown = len(self._held)

    def feed(self, data: bytes) -> str:
        """The text that ``data`` makes certain, "" while nothing is."""
        return self._advance(self._decoder.decode(data))

    def finish(self) -> str:
        """What was held back and turned out to be no stop string; call it once, at the end.

        The bytes of a character that was never completed are dropped.
        """
        return "" if self.stopped else self._release(len(self._held))

    def _advance(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._held and self._openings.isdisjoint(text):
            return text
        self._held += text
        starts = [(self._find(stop), stop) for stop in self.stop]
        ends = [(start + len(stop), start) for start, stop in starts if start >= 0]
        if ends:  # the stop string that ends first, however the bytes were cut
            self.stopped = True
            return self._release(min(ends)[1])
        return self._release(len(self._held) - self._open_tail())

    def _find(self, stop: str) -> int:
        """Where ``stop`` begins, -1 if nowhere; newlines alone must really have been said."""
        return self._held.find(stop, 0 if stop.strip("\n") else self._unshown)

    def _release(self, length: int) -> str:
        """Take ``length`` characters from the front, less the newline that was never said."""
        text, self._held = self._held[:length], self._held[length:]
        shown, self._unshown = text[self._unshown :], max(0, self._unshown - len(text))
        return shown

    def _open_tail(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self.stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self.stop):
                return length
        return 0


def _opens_a_line(stop: str) -> bool:
    return stop.startswith("\n") and bool(stop.strip("\n"))
