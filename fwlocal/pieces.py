"""From a token's bytes to text that may be shown: whole characters, and nothing of a stop string.

A token may end inside a character, and a stop string may begin inside one token and end inside
another; what could still become either is held back until it is decided.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence


class PieceStream:
    """Feed it bytes; it returns the text that is certain.

    A stop string of a newline and more also matches at the very start, since a prompt format ends
    its scaffold with one. Once ``stopped`` is true the rest is dropped.

    Of an answer that goes on, ``said`` is its text so far, which may hold the beginning of a stop
    string, and ``half`` the bytes of a character that it ended in. ``n_dropped`` characters of
    ``said`` turned out to belong to the stop string.
    """

    def __init__(self, stop: Sequence[str] = (), *, said: str = "", half: bytes = b"") -> None:
        if not all(stop):
            raise ValueError("a stop string is empty")
        self.stop = tuple(stop)
        self.stopped = False
        self.n_dropped = 0
        self._openings = frozenset(text[0] for text in self.stop)
        self._decoder = _decoder(half)
        # The text not yet certain. What it starts with is matched but not shown: a newline that
        # was never said, and what was shown before.
        newline = "\n" if any(_opens_a_line(text) for text in self.stop) else ""
        self._held = newline + said
        self._unsaid, self._unshown = len(newline), len(self._held)
        self._release(len(self._held) - self._open_tail())

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
            start = min(ends)[1]
            self.n_dropped = max(0, self._unshown - max(start, self._unsaid))
            return self._release(start)
        return self._release(len(self._held) - self._open_tail())

    def _find(self, stop: str) -> int:
        """Where ``stop`` begins, -1 if nowhere; newlines alone must really have been said."""
        return self._held.find(stop, 0 if stop.strip("\n") else self._unsaid)

    def _release(self, length: int) -> str:
        """Take ``length`` characters from the front; those of them that are to be shown."""
        text, self._held = self._held[:length], self._held[length:]
        shown, self._unshown = text[self._unshown :], max(0, self._unshown - len(text))
        self._unsaid = max(0, self._unsaid - len(text))
        return shown

    def _open_tail(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self.stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self.stop):
                return length
        return 0


def spelled(pieces: Iterable[bytes]) -> tuple[str, bytes]:
    """The text of tokens, and the bytes of the character that they end in the middle of."""
    decoder = _decoder()
    text = decoder.decode(b"".join(pieces))
    return text, decoder.getstate()[0]


def n_spelling(pieces: Sequence[bytes], text: str, half: bytes = b"") -> int:
    """How many of the first tokens spell the beginning of ``text``, in whole characters; ``half``
    is the character's beginning that stands before them."""
    decoder = _decoder(half)
    n_whole = position = 0
    for index, piece in enumerate(pieces, 1):
        said = decoder.decode(piece)
        if not text.startswith(said, position):
            break
        position += len(said)
        if not decoder.getstate()[0]:
            n_whole = index
    return n_whole


def start_of(text: str, pieces: Sequence[bytes]) -> int | None:
    """Where the tokens begin that end with ``text`` and nothing before it; None if none do."""
    whole, _ = spelled(pieces)
    position, found = len(whole) - len(text), None
    if not whole.endswith(text):
        return None
    decoder, n_characters = _decoder(), 0
    for index, piece in enumerate(pieces):
        if n_characters == position and not decoder.getstate()[0]:
            found = index
        n_characters += len(decoder.decode(piece))
    return found


def _decoder(half: bytes = b"") -> codecs.IncrementalDecoder:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(half)
    return decoder


def _opens_a_line(stop: str) -> bool:
    return stop.startswith("\n") and bool(stop.strip("\n"))
