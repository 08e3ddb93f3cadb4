"""What a conversion would write: the plan of a dry run, as data and for people."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from rich import filesize

from convert.display import duration
from convert.job import Job, nearest_folder
from convert.plan import PlannedLevel
from convert.quantize import available_cores, build_tables, quantize_rows
from convert.sources.tensors import row_bytes
from convert.writer import header_bytes

_SAMPLE_ROWS, _SAMPLE_COLUMNS = 64, 4096


def describe(job: Job) -> dict[str, Any]:
    """The plan as plain data."""
    levels = [describe_level(job, level) for level in job.levels]
    return {
        "source_files": [str(file.path) for file in job.model.source.files],
        "source_bytes": job.source_bytes,
        "fetch_bytes": job.fetch_bytes,
        "tensors": len(job.model.tensors),
        "levels": levels,
        "disk_needed_bytes": sum(level["file_size_bytes"] for level in levels),
        "disk_free_bytes": shutil.disk_usage(nearest_folder(job.request.out)).free,
        "estimated_s": round(estimated_s(job), 1),
    }


def describe_level(job: Job, level: PlannedLevel) -> dict[str, Any]:
    """One level: ``size_bytes`` of its weights, ``file_size_bytes`` with headers."""
    n_files = len(job.model.source.files)
    headers = sum(len(header_bytes(file, n_files)) for file in level.files)
    return {
        "level": level.level.name,
        "files": [str(file.path) for file in level.files],
        "exists": all(file.path.exists() for file in level.files),
        "size_bytes": level.size_bytes,
        "file_size_bytes": headers + sum(file.data_bytes for file in level.files),
        "bits_per_weight": round(level.bits_per_weight, 3),
        "types": dict(Counter(tensor.type_name for tensor in level.tensors).most_common()),
    }


def show(plan: dict[str, Any]) -> None:
    """The same for people, on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("LEVEL", "SIZE", "BITS/WEIGHT", "TENSORS BY TYPE", "FILE"):
        grid.add_column(heading, overflow="fold")
    for level in plan["levels"]:
        types = ", ".join(f"{count} {name}" for name, count in level["types"].items())
        first, *others = level["files"]
        file = first + (f" and {len(others)} more" if others else "")
        file += " (exists)" if level["exists"] else ""
        size = filesize.decimal(level["file_size_bytes"])
        cells = (size, f"{level['bits_per_weight']:.2f}", types, file)
        grid.add_row(Text(level["level"], style="bold"), *map(Text, cells))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(grid)
    console.print(
        f"\n{plan['tensors']} tensors, {_reading(plan)}, "
        f"{filesize.decimal(plan['disk_needed_bytes'])} to write "
        f"({filesize.decimal(plan['disk_free_bytes'])} free); "
        f"about {duration(plan['estimated_s'])} of quantizing on this machine",
        highlight=False,
    )


def _reading(plan: dict[str, Any]) -> str:
    """How much of the source is read, and from where."""
    fetched, local = plan["fetch_bytes"], plan["source_bytes"] - plan["fetch_bytes"]
    parts = {"to fetch, nothing of it stored": fetched, "to read": local}
    return ", ".join(f"{filesize.decimal(size)} {what}" for what, size in parts.items() if size)


def estimated_s(job: Job) -> float:
    """Seconds of quantizing: elements of each type by its speed on a sample, over all cores."""
    elements: Counter[str] = Counter()
    for tensor in job.model.tensors:
        types = {t.type_name for level in job.levels for t in level.tensors if t.tensor is tensor}
        for type_name in types:
            elements[type_name] += math.prod(tensor.shape)
    n_threads = min(job.request.n_threads or available_cores(), available_cores())
    weighted = job.importance is not None
    return sum(count * _element_s(name, n_threads, weighted) for name, count in elements.items())


def _element_s(type_name: str, n_threads: int, weighted: bool) -> float:
    """Seconds for one element with all threads at work, which share cores and caches; kernels
    take longer with an importance matrix."""
    random = np.random.default_rng(0)
    values = random.standard_normal((_SAMPLE_ROWS, _SAMPLE_COLUMNS), np.float32)
    importance = np.ones(_SAMPLE_COLUMNS, np.float32) if weighted else None
    build_tables(type_name)

    def work(_: int) -> None:
        out = np.empty(_SAMPLE_ROWS * row_bytes(type_name, _SAMPLE_COLUMNS), np.uint8)
        quantize_rows(values, _SAMPLE_COLUMNS, type_name, out, importance)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, range(n_threads)))  # starts the threads
        started = time.perf_counter()
        list(pool.map(work, range(n_threads)))
        return (time.perf_counter() - started) / values.size / n_threads
