"""What a conversion shows: the plan of a dry run, and progress while it works.

Progress goes to stderr: a live line on a terminal, a plain one now and then otherwise.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich import filesize

from convert.job import Job
from convert.pipeline import Progress
from convert.plan import PlannedLevel
from convert.quantize import prepare, quantize_rows
from convert.run import Outcome, available_cores
from convert.tensors import row_bytes

PLAIN_EVERY_S = 30.0
_SAMPLE_ROWS, _SAMPLE_COLUMNS = 64, 4096


def describe(job: Job) -> dict[str, Any]:
    """The plan as plain data."""
    out = job.request.out
    existing = next(path for path in (out, *out.resolve().parents) if path.exists())
    return {
        "source_files": [str(path) for path in job.model.source.files],
        "source_bytes": job.source_bytes,
        "tensors": len(job.model.tensors),
        "levels": [_describe_level(level) for level in job.levels],
        "disk_needed_bytes": sum(file.data_bytes for file in job.files),
        "disk_free_bytes": shutil.disk_usage(existing).free,
        "estimated_s": round(estimated_s(job), 1),
    }


def _describe_level(level: PlannedLevel) -> dict[str, Any]:
    return {
        "level": level.level.name,
        "files": [str(file.path) for file in level.files],
        "size_bytes": level.size_bytes,
        "bits_per_weight": round(level.bits_per_weight, 3),
        "types": dict(Counter(tensor.type_name for tensor in level.tensors).most_common()),
    }


def print_plan(plan: dict[str, Any]) -> None:
    """The same for people, on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("LEVEL", "SIZE", "BITS/WEIGHT", "TENSORS BY TYPE", "FILE"):
        grid.add_column(heading, overflow="fold")
    for level in plan["levels"]:
        types = ", ".join(f"{count} {name}" for name, count in level["types"].items())
        files = level["files"]
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        size = filesize.decimal(level["size_bytes"])
        cells = (size, f"{level['bits_per_weight']:.2f}", types)
        grid.add_row(Text(level["level"], style="bold"), *map(Text, (*cells, files[0] + more)))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(grid)
    console.print(
        f"\n{plan['tensors']} tensors, {filesize.decimal(plan['source_bytes'])} to read, "
        f"{filesize.decimal(plan['disk_needed_bytes'])} to write "
        f"({filesize.decimal(plan['disk_free_bytes'])} free); "
        f"about {duration(plan['estimated_s'])}, as fast as this machine's cores quantize a "
        "sample (a slow disk adds to that)",
        highlight=False,
    )


def estimated_s(job: Job) -> float:
    """Seconds of quantizing: elements of each type by its speed on a sample, over all cores."""
    elements: Counter[str] = Counter()
    for tensor in job.model.tensors:
        types = {t.type_name for level in job.levels for t in level.tensors if t.tensor is tensor}
        for type_name in types:
            elements[type_name] += math.prod(tensor.shape)
    cores = job.request.n_threads or available_cores()
    return sum(count * _element_s(name) for name, count in elements.items()) / cores


def _element_s(type_name: str) -> float:
    """Seconds that one core needs for one element."""
    random = np.random.default_rng(0)
    values = random.standard_normal((_SAMPLE_ROWS, _SAMPLE_COLUMNS), np.float32)
    out = np.empty(_SAMPLE_ROWS * row_bytes(type_name, _SAMPLE_COLUMNS), np.uint8)
    importance = np.ones(_SAMPLE_COLUMNS, np.float32)
    prepare(type_name)
    started = time.perf_counter()
    quantize_rows(values, _SAMPLE_COLUMNS, type_name, out, importance)
    return (time.perf_counter() - started) / values.size


def summary(outcome: Outcome, seconds: float) -> str:
    """A line for the end."""
    size = filesize.decimal(sum(path.stat().st_size for path in outcome.wrote))
    files = "1 file" if len(outcome.wrote) == 1 else f"{len(outcome.wrote)} files"
    return f"wrote {files}, {size}, in {duration(seconds)}"


@contextlib.contextmanager
def shown(job: Job) -> Iterator[Callable[[Progress], None]]:
    """A function that shows progress on stderr while inside."""
    levels = " ".join(level.level.name for level in job.levels)
    if not sys.stderr.isatty():
        yield _PlainLines(levels).update
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description} {task.percentage:3.0f}%"),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[tensor]}", style="dim"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(levels, total=1.0, speed="", tensor="")
        clock = _Clock()

        def update(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.done_bytes / progress.total_bytes,
                speed=clock.speed(progress),
                tensor=progress.tensor,
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
