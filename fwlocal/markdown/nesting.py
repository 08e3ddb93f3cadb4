"""The lists and quotes that are open, and what is put before their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fwlocal.markdown.blocks import Container, Item, Quote
from fwlocal.markdown.cells import cells
from fwlocal.markdown.paper import Paper, Segment, text_of
from fwlocal.markdown.styles import BULLET, BULLET_PLAIN, MARKER, QUOTE, QUOTE_PLAIN


class Nesting:
    """Containers from the outermost in. The marker of an item is shown once, before its text."""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper
        self.containers: list[Container] = []
        self._n_shown = 0
        self._left: Container | None = None

    @property
    def n_quotes(self) -> int:
        """How many quotes are open."""
        return sum(isinstance(container, Quote) for container in self.containers)

    @property
    def owes_marker(self) -> bool:
        """Whether an item has not shown its marker yet."""
        return any(isinstance(c, Item) for c in self.containers[self._n_shown :])

    def leave(self, count: int) -> None:
        """Only ``count`` containers go on; an item that had no text is shown without."""
        self._left = self.containers[count] if count < len(self.containers) else None
        if self._left is not None:
            self.show_markers()
        del self.containers[count:]
        self._n_shown = min(self._n_shown, count)

    def enter(self, new: Sequence[Container]) -> None:
        """Others begin. An ordered item is numbered on from its neighbour, if its own number does
        not go on."""
        for container in new:
            self.containers.append(_numbered(container, self._left))
            self._left = None

    def show_markers(self) -> None:
        """Put the markers that are owed on a line of their own."""
        if self.owes_marker:
            self._paper.line(self.bare(self.prefixes()[0]))

    def prefixes(self) -> tuple[list[Segment], list[Segment]]:
        """What is put before the first row of the next block, and before its others."""
        rest = [self._rest(container) for container in self.containers]
        owed = [self._marker(container) for container in self.containers[self._n_shown :]]
        first = rest[: self._n_shown] + owed
        self._n_shown = len(self.containers)
        most = self._paper.width // 2
        if cells(text_of(first)) > most:
            first = [segment for segment in owed if segment[1].strip()][-1:]
        return first, rest if cells(text_of(rest)) <= most else []

    def bars(self, count: int | None = None) -> list[Segment]:
        """The marks of the quotes alone, of the outermost ``count`` containers."""
        found = [self._rest(c) for c in self.containers[:count] if isinstance(c, Quote)]
        return found if cells(text_of(found)) <= self._paper.width // 2 else []

    @staticmethod
    def bare(prefix: Sequence[Segment]) -> list[Segment]:
        """``prefix`` for a line without text."""
        kept = list(prefix)
        while kept and not kept[-1][1].strip(" "):
            kept.pop()
        return [*kept[:-1], (kept[-1][0], kept[-1][1].rstrip(" "))] if kept else []

    def _marker(self, container: Container) -> Segment:
        if isinstance(container, Quote):
            return self._rest(container)
        bullet = BULLET if self._paper.color else BULLET_PLAIN
        return MARKER if container.number is None else "", f"{_shown(container, bullet)} "

    def _rest(self, container: Container) -> Segment:
        if isinstance(container, Quote):
            return MARKER, QUOTE if self._paper.color else QUOTE_PLAIN
        return "", " " * (len(_shown(container, "-")) + 1)


def _shown(item: Item, bullet: str) -> str:
    return bullet if item.number is None else item.marker


def _numbered(container: Container, before: Container | None) -> Container:
    if not isinstance(container, Item) or not isinstance(before, Item):
        return container
    number, last = container.number, before.number
    if number is None or last is None or container.marker[-1] != before.marker[-1]:
        return container
    if number > last:
        return container
    return replace(container, marker=f"{last + 1}{container.marker[-1]}")
