"""Progress of long work, on stderr: a live line for a person who watches a terminal. What takes
hours also tells of itself in a log, now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DELAY_S = 0.7  # shorter work needs no bar
PLAIN_EVERY_S = 30.0
WIDE = 70  # columns from which names and counts are shown, too


class ProgressBar:
    """A bar that appears once the work takes long, and leaves no trace."""

    def __init__(self, description: str) -> None:
        self.description = description
        self._started = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, fraction: float) -> None:
        """Show that ``fraction`` of the work is done."""
        if self._bar is None:
            late = time.monotonic() - self._started > DELAY_S
            if not late or not sys.stderr.isatty():
                return
            self._bar = self._start()
        self._bar.update(self._bar.task_ids[0], completed=fraction)

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        bar.add_task(self.description, total=1.0)
        bar.start()
        return bar


class TransferBar:
    """Bytes on their way: name, share, speed, time left; without a terminal a line now and then."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._said = time.monotonic()
        self._start: tuple[float, int] | None = None

    def __enter__(self) -> TransferBar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, name: str, done_bytes: int, total_bytes: int) -> None:
        """``done_bytes`` of ``total_bytes`` are there; ``name`` is what comes now."""
        if not sys.stderr.isatty():
            self._say(name, done_bytes, total_bytes)
            return
        if self._bar is None:
            self._bar = self._open()
            self._task = self._bar.add_task(name, total=total_bytes, completed=done_bytes)
        if self._task is not None:
            self._bar.update(self._task, description=name, completed=done_bytes, total=total_bytes)

    def _open(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True)
        columns: list[ProgressColumn] = [
            TextColumn("{task.percentage:3.0f}%"),
            BarColumn(bar_width=None),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        ]
        if console.width >= WIDE:
            columns.insert(0, TextColumn("{task.description}", markup=False))
            columns.insert(3, DownloadColumn())
        bar = Progress(*columns, console=console, transient=True, expand=True)
        bar.start()
        return bar

    def _say(self, name: str, done_bytes: int, total_bytes: int) -> None:
        now = time.monotonic()
        self._start = self._start or (now, done_bytes)
        if now - self._said < PLAIN_EVERY_S:
            return
        self._said = now
        speed = (done_bytes - self._start[1]) / max(now - self._start[0], 1e-3)
        left_s = (total_bytes - done_bytes) / speed if speed else 0
        share = done_bytes / total_bytes if total_bytes else 1.0
        sys.stderr.write(
            f"fwlocal: {name}: {share:.0%} of {total_bytes / 1e9:.2f} GB, {speed / 1e6:.1f} MB/s, "
            f"{left_s / 60:.0f} min left\n"
        )
        sys.stderr.flush()
