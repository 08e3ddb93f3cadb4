"""What is written, and the little of it that is written again.

Text is appended, in pieces as they are fed. A ``Draft`` is one line that is shown as it comes and
may be replaced when it is complete, if all of it, and the rows ``above`` that go with it, surely
are where they were put: on the screen, which was not resized since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from fwlocal.markdown.cells import rows

Segment = tuple[str, str]
"""The parameters of an SGR sequence (``"1;34"``; "" for none), and text without newlines."""


class Paper:
    """``write`` takes text for the terminal; without ``color`` it never gets an escape sequence."""

    def __init__(
        self,
        write: Callable[[str], None],
        width: Callable[[], int],
        height: Callable[[], int],
        color: bool,
    ) -> None:
        self._write = write
        self._width = width
        self._height = height
        self.color = color
        self.flushes = 0
        self.at_line_start = True
        self.is_blank = True  # nothing above, or an empty line
        self.out: list[str] = []

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the screen now, at least one each."""
        return max(1, self._width()), max(1, self._height())

    @property
    def width(self) -> int:
        """Columns of the screen now."""
        return max(1, self._width())

    def put(self, style: str, text: str) -> None:
        """Append text to the line."""
        if not text:
            return
        self.at_line_start = self.is_blank = False
        self.out.append(f"\x1b[{style}m{text}\x1b[0m" if style and self.color else text)

    def line(self, segments: Iterable[Segment]) -> None:
        """Append a whole line."""
        for style, text in segments:
            self.put(style, text)
        self.newline()

    def newline(self) -> None:
        """End the line."""
        self.is_blank = self.at_line_start
        self.at_line_start = True
        self.out.append("\n")

    def flush(self) -> None:
        """Hand over what was put."""
        if self.out:
            self._write("".join(self.out))
            self.out.clear()
        self.flushes += 1


class Draft:
    """A line, or a few, begun at the start of a row; ``prefix`` is put before each."""

    def __init__(self, paper: Paper, prefix: Sequence[Segment] = ()) -> None:
        self._paper = paper
        self._prefix = prefix
        self._size = paper.size
        self._flushes = paper.flushes
        self._mark = len(paper.out)
        self._before = (paper.at_line_start, paper.is_blank)
        self._spaces = ""
        self._lines = [""]

    def add(self, text: str) -> None:
        """Show more of the line; spaces wait for what follows, so that none ends a line."""
        text = self._spaces + text
        shown = text.rstrip(" ")
        self._spaces = text[len(shown) :]
        if not shown:
            return
        if not self._lines[-1]:
            for segment in self._prefix:
                self._paper.put(*segment)
        self._paper.put("", shown)
        self._lines[-1] += shown

    def newline(self) -> None:
        """Begin one more line."""
        self._spaces = ""
        self._lines.append("")
        self._paper.newline()

    def rows(self) -> int | None:
        """Rows that it takes, None where that is not certain."""
        before = text_of(self._prefix)
        total = 0
        for line in self._lines:
            taken = rows(before + line, self._size[0])
            if taken is None:
                return None
            total += taken
        return total

    def can_be_replaced(self, above: int = 0) -> bool:
        """Whether it, and ``above`` rows over it, can be written anew in their place."""
        taken = self.rows()
        size = self._paper.size
        if not self._paper.color or taken is None or size != self._size:
            return False
        return taken - 1 + above < size[1]

    @contextmanager
    def replaced(self, above: int = 0, erase: bool = True) -> Iterator[None]:
        """What is written inside stands in its place, and in that of ``above`` rows over it;
        only after ``can_be_replaced``. ``erase`` where it may be shorter than what it replaces."""
        paper = self._paper
        is_seen = self._flushes != paper.flushes
        up = above
        if is_seen:
            up += (self.rows() or 1) - 1
        else:
            del paper.out[self._mark :]
        erases = erase and (is_seen or above > 0)
        if erases:
            paper.out.append("\x1b[?2026h")  # a terminal that knows it shows the change at once
        paper.out.append((f"\x1b[{up}A" if up else "") + ("\r" if is_seen else ""))
        if erases:
            paper.out.append("\x1b[J")
        paper.at_line_start, paper.is_blank = self._before
        yield
        if erases:
            paper.out.append("\x1b[?2026l")


def text_of(segments: Iterable[Segment]) -> str:
    """What is seen of them."""
    return "".join(text for _, text in segments)
