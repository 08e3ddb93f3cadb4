"""A terminal that remembers every row, and answers rendered on it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyte

from fwlocal.markdown import MarkdownWriter

SGR = re.compile(r"\x1b\[[0-9;]*m")
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?2026[hl]|\x1b\[\d+A|\x1b\[J|\r")


class Screen(pyte.HistoryScreen):  # type: ignore[misc]
    """pyte's, which forgets the rest of a text after some characters without width."""

    def draw(self, data: str) -> None:
        for char in data:
            super().draw(char)


@dataclass
class Terminal:
    """What a person sees; ``written`` is all that it was sent."""

    width: int = 80
    height: int = 24
    written: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.screen = Screen(self.width, self.height, history=5000, ratio=0.5)
        self.stream = pyte.Stream(self.screen)

    def write(self, text: str) -> None:
        """As a terminal driver hands it on."""
        self.written.append(text)
        self.stream.feed(text.replace("\n", "\r\n"))

    @property
    def sent(self) -> str:
        """All of it."""
        return "".join(self.written)

    def cells(self) -> list[list[tuple[object, ...]]]:
        """Every row, those that scrolled away too, with its attributes."""
        held = [*self.screen.history.top, *(self.screen.buffer[y] for y in range(self.height))]
        return [[tuple(row[x]) for x in range(self.width)] for row in held]

    def rows(self) -> list[str]:
        """Every row as text, up to the last that is not empty."""
        rows = ["".join(str(cell[0]) for cell in row).rstrip() for row in self.cells()]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def state(self) -> dict[str, object]:
        """What an escape sequence could change and an answer may not."""
        screen = self.screen
        return {
            "modes": set(screen.mode),
            "attributes": screen.cursor.attrs,
            "hidden": screen.cursor.hidden,
            "title": screen.title,
            "icon": screen.icon_name,
            "charset": (screen.charset, screen.g0_charset, screen.g1_charset),
            "margins": screen.margins,
            "tabs": set(screen.tabstops),
            "saved": list(screen.savepoints),
            "size": (screen.columns, screen.lines),
        }


def shown(pieces: str | Iterable[str], width: int = 80, height: int = 24) -> Terminal:
    """An answer in colours on a new terminal."""
    terminal = Terminal(width, height)
    writer = MarkdownWriter(terminal.write, width=lambda: width, height=lambda: height, color=True)
    for piece in [pieces] if isinstance(pieces, str) else pieces:
        writer.feed(piece)
    writer.end()
    return terminal


def plain(pieces: str | Iterable[str], width: int = 80) -> str:
    """An answer without colours."""
    out: list[str] = []
    writer = MarkdownWriter(out.append, width=lambda: width, height=lambda: 24, color=False)
    for piece in [pieces] if isinstance(pieces, str) else pieces:
        writer.feed(piece)
    writer.end()
    return "".join(out)
