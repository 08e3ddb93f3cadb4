"""A table's rows as lines of aligned columns; pure.

Columns that are too wide for the screen are narrowed, the widest first, and their cells wrapped
between words. Where even that leaves too little, each row is a list of its fields.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from fwlocal.markdown.cells import cells
from fwlocal.markdown.paper import Segment
from fwlocal.markdown.styles import FAINT, RULE, RULE_PLAIN, STRONG, joined

GAP = 2
MIN_COLUMN = 6  # cells; a narrower column is not worth wrapping

Line = list[Segment]

_DELIMITER = re.compile(r" *:?-+:? *")
_SPLIT = re.compile(r"(?<!\\)\|")
_WORDS = re.compile(r" +|[^ ]+")


def split_row(text: str) -> list[str]:
    """The cells of ``| a | b |``."""
    body = text.strip().removeprefix("|")
    if body.endswith("|") and not body.endswith("\\|"):
        body = body[:-1]
    return [cell.strip().replace("\\|", "|") for cell in _SPLIT.split(body)]


def alignments(text: str, count: int) -> list[str] | None:
    """``<``, ``>`` or ``^`` for each of ``count`` columns, when ``text`` is the row of dashes."""
    found = split_row(text)
    if len(found) != count or not all(_DELIMITER.fullmatch(cell) for cell in found):
        return None
    return ["^" if c[0] == c[-1] == ":" else ">" if c[-1] == ":" else "<" for c in found]


@dataclass
class Grid:
    """The rows so far, the heading first, each cell as the lines that ``<br>`` makes of it."""

    aligns: list[str]
    color: bool
    rows: list[list[list[Line]]] = field(default_factory=list)
    natural: list[int] = field(default_factory=list)

    def add(self, row: Sequence[list[Line]]) -> None:
        """One row more; cells that lack are empty."""
        empty: list[list[Line]] = [[]] * (len(self.aligns) - len(row))
        self.rows.append([*row, *empty])
        widths = [max(map(width_of, cell), default=0) for cell in self.rows[-1]]
        before = self.natural or [1] * len(widths)
        self.natural = [max(pair) for pair in zip(before, widths, strict=True)]

    def fitted(self, width: int) -> list[int] | None:
        """Widths of the columns on a screen of ``width``, None where they do not fit."""
        widths = list(self.natural)
        spare = width - GAP * (len(widths) - 1)
        if sum(min(natural, MIN_COLUMN) for natural in widths) > spare:
            return None
        while sum(widths) > spare:
            widest = max(widths)
            next_widest = max([w for w in widths if w < widest], default=MIN_COLUMN)
            count = widths.count(widest)
            excess = sum(widths) - spare
            cut = max(1, min(widest - max(next_widest, MIN_COLUMN), -(-excess // count)))
            for index in range(len(widths)):
                if widths[index] == widest and excess > 0:
                    step = min(cut, excess)
                    widths[index] -= step
                    excess -= step
        return widths

    def lines(self, index: int, widths: list[int] | None) -> list[Line]:
        """One row; under the heading a line."""
        if widths is None:
            return self._fields(index)
        style = STRONG if index == 0 else ""
        wrapped = [
            [part for line in cell for part in wrap(line, width)]
            for cell, width in zip(self.rows[index], widths, strict=True)
        ]
        height = max(1, *map(len, wrapped))
        lines = [
            self._side_by_side([cell[at] if at < len(cell) else [] for cell in wrapped], widths)
            for at in range(height)
        ]
        if style:
            lines = [[(joined(style, s), text) for s, text in line] for line in lines]
            rule = RULE if self.color else RULE_PLAIN
            dashes: Line = [(FAINT, (" " * GAP).join(rule * width for width in widths))]
            lines.append(dashes)
        return lines

    def _side_by_side(self, parts: Sequence[Line], widths: Sequence[int]) -> Line:
        """Padded as aligned, without spaces at the end."""
        done: Line = []
        owed = 0
        for part, width, align in zip(parts, widths, self.aligns, strict=True):
            spare = max(0, width - width_of(part))
            left = {"<": 0, ">": spare, "^": spare // 2}[align]
            if part:
                if owed + left:
                    done.append(("", " " * (owed + left)))
                done += part
                owed = spare - left + GAP
            else:
                owed += width + GAP
        return done

    def _fields(self, index: int) -> list[Line]:
        """``Heading: cell`` for each cell."""
        if index == 0:
            return []
        lines: list[Line] = [[]] if index > 1 else []
        for heading, cell in zip(self.rows[0], self.rows[index], strict=True):
            name = [(joined(STRONG, s), text) for line in heading for s, text in line]
            before: Line = [*name, ("", ": ")] if name else []
            for line in cell:
                lines.append([*before, *line])
                before = [("", "  ")]
            if not cell and name:
                lines.append([*name, ("", ":")])
        return lines


def width_of(line: Line) -> int:
    """Columns of the screen."""
    return cells("".join(text for _, text in line))


def wrap(line: Line, width: int) -> list[Line]:
    """``line`` in parts of at most ``width``, broken within words only where they are wider."""
    if width_of(line) <= width:
        return [line]
    parts: list[Line] = [[]]
    col = gap = 0
    for style, text in line:
        for word in _WORDS.findall(text):
            if word[0] == " ":
                gap = len(word) if col else 0
                continue
            if col and col + gap + cells(word) > width:
                parts.append([])
                col = gap = 0
            if gap:
                parts[-1].append(("", " " * gap))
            col += gap
            gap = 0
            for char in word if col + cells(word) > width else (word,):
                if col and col + cells(char) > width:
                    parts.append([])
                    col = 0
                parts[-1].append((style, char))
                col += cells(char)
    return parts
