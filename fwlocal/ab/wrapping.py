"""Text that still grows, as lines of so many cells: broken between words, one line at a time.

A line is given out once nothing that follows can change it, for the width that the screen has then.
Widths are those of ``rich.cells``; a cluster of characters that is drawn as one is not broken.
"""

from __future__ import annotations

from dataclasses import dataclass

TAB = "    "

_JOINER, _EMOJI_FORM = "\u200d", "\ufe0f"


@dataclass(frozen=True)
class Line:
    """A line without its newline; ``mark`` is the stretch of it that is marked, from and to."""

    text: str
    mark: tuple[int, int] | None = None


class Passage:
    """A text that is not on the screen yet, in part perhaps not even written."""

    def __init__(self) -> None:
        self._text = ""
        self._mark: tuple[int, int] | None = None
        self._is_whole = False

    @property
    def is_done(self) -> bool:
        """Whether there are no more lines, and never will be."""
        return self._is_whole and not self._text

    def add(self, text: str, *, marked: bool = False) -> None:
        """More of it, inert already; only one stretch is ever ``marked``."""
        start = len(self._text)
        self._text += text.replace("\t", TAB)
        if marked:
            self._mark = (start, len(self._text))

    def end(self) -> None:
        """There is no more; empty lines at the end are left out."""
        self._text, self._is_whole = self._text.rstrip(), True

    def take(self, width: int) -> Line | None:
        """The next line of at most ``width`` cells, None while it is not certain."""
        found = self._found(width)
        if found is None:
            return None
        end, rest = found
        line = Line(self._text[:end], _within(self._mark, end))
        self._text = self._text[rest:]
        if self._mark is not None:
            self._mark = (self._mark[0] - rest, self._mark[1] - rest)
        return line

    def has_line(self, width: int) -> bool:
        """Whether ``take`` would give one."""
        return self._found(width) is not None

    def _found(self, width: int) -> tuple[int, int] | None:
        return first_line(self._text, width, is_whole=self._is_whole)


def first_line(text: str, width: int, *, is_whole: bool) -> tuple[int, int] | None:
    """Where the first line of ``text`` ends and where the next begins; None while more of the text
    could change it. White space at a break is left out."""
    newline = text.find("\n")
    stretch = text if newline < 0 else text[:newline]
    n_fit = _n_fitting(stretch, width)
    if n_fit == len(stretch):
        if newline >= 0:
            return len(stretch.rstrip(" ")), newline + 1
        return (len(text), len(text)) if is_whole and text else None
    cut = _soft_break(stretch, n_fit) or _hard_break(stretch, n_fit)
    rest = len(text) - len(text[cut:].lstrip(" "))
    if rest == len(text) and not is_whole:
        return None  # whether a newline comes next
    return len(text[:cut].rstrip(" ")), rest + (text[rest : rest + 1] == "\n")


def _n_fitting(text: str, width: int) -> int:
    """How many characters fit into ``width`` cells, at least as a terminal counts them that draws
    each one on its own."""
    taken = 0
    for index, char in enumerate(text):
        taken += _cells(char)
        if taken > width:
            return index
    return len(text)


def _cells(char: str) -> int:
    """The most cells that a character adds to a line."""
    from rich.cells import get_character_cell_size

    return 1 if char == _EMOJI_FORM else max(0, get_character_cell_size(char))


def _soft_break(text: str, n_fit: int) -> int:
    """The last place, at most ``n_fit``, between two words or beside a wide character; 0 where
    there is none but in the indent."""
    indent = len(text) - len(text.lstrip(" "))
    for at in range(n_fit, indent, -1):
        beside = text[at - 1], text[at]
        if " " in beside or (_is_open(text, at) and max(map(_cells, beside)) > 1):
            return at
    return 0


def _hard_break(text: str, n_fit: int) -> int:
    """Inside a word that is longer than a line: before a whole character, at least one."""
    before = [at for at in range(n_fit, 0, -1) if _is_open(text, at)]
    after = (at for at in range(n_fit + 1, len(text)) if _is_open(text, at))
    return before[0] if before else next(after, len(text))


def _is_open(text: str, at: int) -> bool:
    """Whether what is before and at ``at`` is drawn apart."""
    char = text[at]
    return _cells(char) > 0 and char != _EMOJI_FORM and text[at - 1] != _JOINER


def _within(mark: tuple[int, int] | None, end: int) -> tuple[int, int] | None:
    """What of a mark lies on a line that ends at ``end``."""
    if mark is None:
        return None
    start, stop = max(mark[0], 0), min(mark[1], end)
    return (start, stop) if start < stop else None
