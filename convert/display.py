"""Progress of a conversion, on stderr: a live line on a terminal, else a plain one now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich import filesize

from convert.job import Job
from convert.pipeline import Progress
from convert.run import Outcome

PLAIN_EVERY_S = 30.0
WIDE = 90  # columns from which the tensor's name is shown, too


def summary(outcome: Outcome, seconds: float) -> str:
    """A line for the end."""
    size = filesize.decimal(sum(map(_size_bytes, outcome.wrote)))
    files = "1 file" if len(outcome.wrote) == 1 else f"{len(outcome.wrote)} files"
    fetched = filesize.decimal(outcome.fetched_bytes)
    source = f"; {fetched} fetched, nothing of it stored" if outcome.fetched_bytes else ""
    return f"wrote {files}, {size}, in {duration(seconds)}{source}"


def _size_bytes(path: Path) -> int:
    """0 for a file that another process has removed."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


@contextlib.contextmanager
def shown(job: Job) -> Iterator[Callable[[Progress], None]]:
    """A function that shows progress on stderr while inside."""
    names = [level.level.name for level in job.levels]
    verb = "fetching" if job.fetch_bytes else "reading"
    levels = " ".join(names) if len(names) < 4 else f"{len(names)} levels"
    if not sys.stderr.isatty():
        yield _PlainLines(levels).update
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = Console(stderr=True)
    columns: list[ProgressColumn] = [
        TextColumn("{task.percentage:3.0f}%"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[speed]}", markup=False, table_column=Column(no_wrap=True)),
    ]
    if console.width >= WIDE:
        columns.insert(0, TextColumn(levels, markup=False))
        columns.append(TextColumn("{task.fields[tensor]}", style="dim", markup=False))
    with Bar(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task("", total=1.0, speed=verb, tensor="")
        clock = _Clock()

        def update(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.done_bytes / progress.total_bytes,
                speed=clock.speed(progress) or verb,
                tensor=f"{progress.tensor} ({progress.n_done}/{progress.n_tensors})",
            )

        yield update


class _Clock:
    """Speed and time left, from what this run itself has done."""

    def __init__(self) -> None:
        self._started: tuple[float, int] | None = None

    def speed(self, progress: Progress) -> str:
        """ "52.1 MB/s, 12 min left"; "" for the first."""
        now = time.monotonic()
        if self._started is None:
            self._started = (now, progress.done_bytes)
        elapsed, done = now - self._started[0], progress.done_bytes - self._started[1]
        if not elapsed or not done:
            return ""
        left = (progress.total_bytes - progress.done_bytes) * elapsed / done
        return f"{filesize.decimal(int(done / elapsed))}/s, {duration(left)} left"


class _PlainLines:
    """A line now and then."""

    def __init__(self, levels: str) -> None:
        self._levels = levels
        self._clock = _Clock()
        self._last = time.monotonic()

    def update(self, progress: Progress) -> None:
        """Print, if the last line is long ago."""
        speed = self._clock.speed(progress)
        if time.monotonic() - self._last < PLAIN_EVERY_S:
            return
        self._last = time.monotonic()
        share = progress.done_bytes / progress.total_bytes
        sys.stderr.write(
            f"fwlocal: {self._levels}: {share:.0%}, {progress.n_done} of {progress.n_tensors} "
            f"tensors ({progress.tensor}), {speed}\n"
        )
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """For people: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
