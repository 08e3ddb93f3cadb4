"""Words into rows: a word goes to the next row when it does not fit.

A word is held until it is complete. One that is wider than the screen is left to the terminal,
which breaks it at the edge and copies it whole. East Asian text breaks between characters, but
not before closing nor after opening punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fwlocal.markdown.cells import cells
from fwlocal.markdown.paper import Paper, Segment

_RUNS = re.compile(r"\n| +|[!-~]+|[^\n -~]")
_JOINERS = "\u200d\u2060"
_CLOSING = set(".,;:!?)]}%\"'…’”»、。，．：；！？）］｝〉》」』】〕・ー々")
_OPENING = set("([{‘“«（［｛〈《「『【〔")


def breaks_between(before: str, after: str) -> bool:
    """Whether a row may end between two characters neither of which is a space."""
    if before.isascii() and after.isascii():
        return False
    if after in _CLOSING or before in _OPENING or before in _JOINERS or cells(after) == 0:
        return False
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U0001f1e6" <= after <= "\U0001f1ff":
        return False  # a skin tone, or half a flag
    return cells(before) == 2 or cells(after) == 2


class Flow:
    """One block of text. ``first`` and ``rest`` are put before its first row and the others."""

    def __init__(self, paper: Paper, first: Sequence[Segment], rest: Sequence[Segment]) -> None:
        self._paper = paper
        self._prefix = first
        self._rest = rest
        self._rest_cells = cells("".join(text for _, text in rest))
        self._word: list[Segment] = []
        self._word_cells = 0
        self._last = ""  # the last character of the word
        self._style = ""  # of the character before the word
        self._gap = 0  # spaces before the word
        self._col = 0
        self._row_is_begun = False
        self._is_overlong = False

    def add(self, style: str, text: str) -> None:
        """More text; a newline ends the row."""
        for run in _RUNS.findall(text):
            if run == "\n":
                self.newline()
            elif run[0] == " ":
                self._place()
                self._is_overlong = False
                self._gap += len(run) if self._row_is_begun else 0
            else:
                self._add_to_word(style, run)

    def _add_to_word(self, style: str, run: str) -> None:
        if self._last and breaks_between(self._last, run[0]):
            self._place()
            self._is_overlong = False
        self._last = run[-1]
        self._word.append((style, run))
        self._word_cells += cells(run)
        if self._is_overlong or self._word_cells > self._paper.width - self._rest_cells:
            self._place()
            self._is_overlong, self._last = True, run[-1]

    def newline(self) -> None:
        """End the row."""
        self._place()
        self._is_overlong = False
        if self._row_is_begun:
            self._next_row()

    def _next_row(self) -> None:
        self._paper.newline()
        self._row_is_begun = False
        self._gap = 0

    def _place(self) -> None:
        """Put the word on this row, or on the next."""
        self._last = ""
        if not self._word:
            return
        width = self._paper.width
        too_wide = self._col + self._gap + self._word_cells > width
        if self._row_is_begun and too_wide and not self._is_overlong:
            self._next_row()
        if not self._row_is_begun:
            self._begin_row()
        elif self._gap:
            style = self._style if self._style == self._word[0][0] else ""
            self._paper.put(style, " " * self._gap)
            self._col += self._gap
        self._gap = 0
        for style, text in _merged(self._word):
            self._paper.put(style, text)
        self._style = self._word[-1][0]
        self._col += self._word_cells
        if self._col > width:
            self._col = (self._col - 1) % width + 1
        self._word, self._word_cells = [], 0

    def _begin_row(self) -> None:
        self._row_is_begun = True
        self._col = 0
        for style, text in self._prefix:
            self._paper.put(style, text)
            self._col += cells(text)
        self._prefix = self._rest


def _merged(word: list[Segment]) -> list[Segment]:
    """Neighbours of one style as one."""
    merged: list[Segment] = []
    for style, text in word:
        if merged and merged[-1][0] == style:
            merged[-1] = (style, merged[-1][1] + text)
        else:
            merged.append((style, text))
    return merged
