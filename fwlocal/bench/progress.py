"""How far a run is, for a person at a terminal: what runs now, how long it will take, and the
figures of every level as they come.

On stderr, and on a terminal alone; it leaves no trace. Nothing is drawn between two calls: a thread
that refreshes a screen would take its time from what is being timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from fwlocal.bench.result import LevelResult
from fwlocal.terminal import inert

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

BAR_WIDTH = 24
AT_LEAST = 3  # steps before the time that is left is guessed,
AT_LEAST_SHARE, AT_LEAST_S = 0.05, 10.0  # and so much of the work, or of the time
MEMORY_SHARE = 0.2  # of the work: how far back the pace is looked at
DRAWING_S, DRAWING_SHARE = 0.25, 0.01  # steps are drawn while that takes no more of the time
AROUND = 3  # lines that the screen needs besides the table
SPARE = 4  # columns to the right: a terminal that echoes ^C must not go on in the next line


class View(Protocol):
    """What a run tells of itself."""

    def expect(self, work: float) -> None:
        """So much work is left, the current step with it; more, or less, than was thought."""

    def step(self, text: str, weight: float = 1.0) -> None:
        """The next step begins, the one before is done; ``weight`` is how much work it is."""

    def finished(self, level: LevelResult) -> None:
        """What is known of a level by now, in place of what was known before."""

    def note(self, message: str) -> None:
        """A line for the user."""


class Silent:
    """Shows nothing; notes go to ``notify``."""

    def __init__(self, notify: Callable[[str], None] = lambda _: None) -> None:
        self._notify = notify

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def expect(self, work: float) -> None:
        """As BenchView's."""

    def step(self, text: str, weight: float = 1.0) -> None:
        """As View's."""

    def finished(self, level: LevelResult) -> None:
        """As View's."""

    def note(self, message: str) -> None:
        """As View's."""
        self._notify(message)


class BenchView:
    """The table of what is measured, and below it a bar over all steps.

    ``labels`` are those of all levels, best first; ``work`` is the sum of all steps' weights, which
    need no unit. ``notify`` prints a note, above the table.
    """

    def __init__(
        self,
        labels: Sequence[str],
        work: float,
        notify: Callable[[str], None],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = tuple(labels)
        self._total, self._done, self._now = work, 0.0, 0.0
        self._notify, self._clock = notify, clock
        self._console = console
        self._entered = self._stepped = clock()
        self._pace = Pace()
        self._drawing_s = 0.0
        self._text = ""
        self._levels: dict[str, LevelResult] = {}
        self._live: Live | None = None

    def __enter__(self) -> BenchView:
        from rich.console import Console
        from rich.live import Live

        console = self._console or Console(stderr=True)
        if console.is_terminal:
            self._live = Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = None

    def expect(self, work: float) -> None:
        """So much work is left, the current step with it; more, or less, than was thought."""
        self._total = self._done + work

    def step(self, text: str, weight: float = 1.0) -> None:
        """As View's."""
        now = self._clock()
        self._pace.add(self._now, now - self._stepped, MEMORY_SHARE * self._total)
        self._stepped = now
        self._done += self._now
        self._now, self._text = weight, text
        if self._drawing_s <= DRAWING_S + DRAWING_SHARE * (self._clock() - self._entered):
            self._draw()

    def finished(self, level: LevelResult) -> None:
        """As View's."""
        self._levels[level.label] = level
        self._draw()

    def note(self, message: str) -> None:
        """As View's."""
        self._notify(message)

    def _draw(self) -> None:
        if self._live is not None:
            started = self._clock()
            self._live.update(self._screen(self._live.console), refresh=True)
            self._drawing_s += self._clock() - started

    def _screen(self, console: Console) -> RenderableType:
        from rich.console import Group
        from rich.constrain import Constrain
        from rich.text import Text

        from fwlocal.bench.table import level_table

        width = max(1, console.width - SPARE)
        text = Text(inert(self.line(width)), no_wrap=True, overflow="ellipsis")
        line = Constrain(text, width)
        if not self._levels:
            return line
        known = [self._levels[label] for label in self._labels if label in self._levels]
        waiting = [label for label in self._labels if label not in self._levels]
        table = Constrain(level_table(known, pending=waiting), width)
        if len(console.render_lines(table)) + AROUND > console.height:
            return line
        return Group(table, Text(), line)

    def line(self, width: int) -> str:
        """What runs now, with as much of the bar as ``width`` columns leave room for."""
        share = min(1.0, self._done / self._total) if self._total > 0 else 0.0
        full = round(share * BAR_WIDTH)
        bar = f"{'━' * full}{'╌' * (BAR_WIDTH - full)} "
        end = f"{share:4.0%}{self._left()}"
        start = bar if len(bar) + len(end) + len(self._text) + 2 <= width else ""
        return f"{start}{end}  {self._text}".lstrip()

    def _left(self) -> str:
        """How long the rest takes, if it goes on like this."""
        pace, left = self._pace, max(0.0, self._total - self._done)
        is_early = self._done < AT_LEAST_SHARE * self._total and pace.passed_s < AT_LEAST_S
        if pace.n_steps < AT_LEAST or is_early:
            return ""
        return f", {duration(left * pace.s_per_work)} left"


class Pace:
    """How long a piece of work takes, by the steps so far: the later ones count more, for loading,
    speed and quality do not go alike, but none so much that what is told jumps."""

    def __init__(self) -> None:
        self.n_steps, self.passed_s = 0, 0.0
        self._work, self._time_s = 0.0, 0.0

    def add(self, work: float, time_s: float, memory: float) -> None:
        """A step is done; what is ``memory`` of work back counts a third. Steps without weight are
        no part of what is left, and do not count."""
        if work <= 0:
            return
        kept = math.exp(-work / memory) if memory > 0 else 0.0
        self._work = kept * self._work + work
        self._time_s = kept * self._time_s + time_s
        self.n_steps += 1
        self.passed_s += time_s

    @property
    def s_per_work(self) -> float:
        """Seconds; 0 before the first step is done."""
        return self._time_s / self._work if self._work else 0.0


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``1 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
