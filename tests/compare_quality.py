"""Quality side by side with llama-perplexity:
``python -m tests.compare_quality BIN [REFERENCE.gguf LEVEL.gguf...] [--chunks N] [--threads N]``.

Without files it is the embedded default model's Q8_0 and five levels below it, made first.

Both read the same chunks of 512 tokens of the shipped text, llama-perplexity in its two steps (the
reference's logits into a file, then each level against it), ours by ``fwlocal bench``. Prints, as
Markdown tables, whether all statistics agree (``--all``: every one of both), and how long both
roads take for all levels from start to end, loading included, in turns, with their peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fwlocal.bench.result import Value
from fwlocal.bench.text import SHIPPED
from fwlocal.cli.bench_levels import Asked, enter
from fwlocal.hardware import default_threads
from fwlocal.loader import Library
from fwlocal.registry import DEFAULT_MODEL

DEFAULT_LEVELS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M")
N_CTX = 512
PPL_GOAL = 1e-4  # of the value
GOAL, GOAL_ABSOLUTE = 1e-2, 1e-4  # of the value, or as it is
# What llama-perplexity calls a statistic, and what it multiplies it by -> what we call it
NAMES = {
    ("Mean PPL(Q)", 1): "ppl",
    ("Mean PPL(Q)/PPL(base)", 1): "ppl_ratio",
    ("Mean KLD", 1): "kld_mean",
    ("Median KLD", 1): "kld_median",
    ("95.0% KLD", 1): "kld_95",
    ("99.0% KLD", 1): "kld_99",
    ("99.9% KLD", 1): "kld_99_9",
    ("Maximum KLD", 1): "kld_max",
    ("Same top p", 100): "top1",
    ("Mean Δp", 100): "dp_mean",
    ("RMS Δp", 100): "dp_rms",
}
_LINE = re.compile(r"^ *([^:\n]+?) *: +(-?[\d.]+|-?nan)%?(?: ± +([\d.]+))?", re.MULTILINE)


@dataclass(frozen=True)
class Task:
    """What is read, by what."""

    reference: Path
    levels: tuple[Path, ...]
    chunks: int
    threads: int


@dataclass(frozen=True)
class Road:
    """One way through the task: each level's statistics, and what it took."""

    found: Mapping[str, Mapping[str, Value]]
    wall_s: float
    peak_bytes: int
    file_bytes: int = 0


def our_road(task: Task) -> Road:
    """``fwlocal bench``, with nothing kept from before."""
    command = [sys.executable, "-m", "fwlocal", "bench", str(task.reference)]
    command += [*map(str, task.levels), "--reference", str(task.reference), "--no-speed"]
    command += ["--n-ctx", str(N_CTX), "--chunks", str(task.chunks), "--json", "-"]
    command += ["--threads", str(task.threads)]
    with tempfile.TemporaryDirectory() as folder:
        output, wall_s, peak_bytes = measured(command, FWLOCAL_HOME=folder)
    found = {
        Path(level["file"]).name: {
            name: Value(level["quality"][name]["value"], level["quality"][name]["se"])
            for name in NAMES.values()
        }
        for level in json.loads(output)["levels"]
        if level["file"] != str(task.reference)
    }
    return Road(found, wall_s, peak_bytes)


def their_road(binary: Path, task: Task) -> Road:
    """llama-perplexity's: one process for the reference and one for each level."""
    found, wall_s, peak_bytes = {}, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        logits = Path(folder) / "logits"
        for path in (task.reference, *task.levels):
            command = [str(binary / "llama-perplexity"), "-m", str(path), "-f", str(SHIPPED)]
            command += ["-c", str(N_CTX), "--chunks", str(task.chunks), "-t", str(task.threads)]
            command += ["--kl-divergence-base", str(logits)]
            if logits.exists():
                command.append("--kl-divergence")
            output, one_s, one_bytes = measured(command)
            wall_s, peak_bytes = wall_s + one_s, max(peak_bytes, one_bytes)
            found[path.name] = parsed(output)
        size = logits.stat().st_size
    return Road(found, wall_s, peak_bytes, size)


def parsed(output: str) -> dict[str, Value]:
    """The statistics in what llama-perplexity prints, in our units."""
    lines = {" ".join(name.split()): (value, se) for name, value, se in _LINE.findall(output)}
    return {
        ours: Value(float(value) / scale, float(se) / scale if se else None)
        for (name, scale), ours in NAMES.items()
        for value, se in [lines.get(name, ("nan", ""))]
    }


def measured(command: Sequence[str], **env: str) -> tuple[str, float, int]:
    """What a process writes on stdout, its wall seconds and its peak memory in bytes."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, **env},
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()[-400:]
            raise SystemExit(f"{command[0]} left with {process.returncode}: {said}")
        output.seek(0)
        peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return output.read().decode("utf-8", "replace"), wall_s, peak_bytes


def agrees(name: str, ours: float, theirs: float) -> bool:
    """Whether a statistic reaches its goal."""
    off = abs(ours - theirs)
    if name == "ppl":
        return off <= PPL_GOAL * theirs
    return off <= max(GOAL * abs(theirs), GOAL_ABSOLUTE)


def summary(ours: Road, theirs: Road) -> list[str]:
    """A row for each level: how far its perplexity is off, and the statistic that is furthest off
    of those that must agree within 1 % and not within 1e-4 anyway."""
    lines = [
        "| level | PPL, ours | theirs | KLD, ours | theirs | furthest off | all within |",
        "|---|---|---|---|---|---|---|",
    ]
    for level, values in ours.found.items():
        other = theirs.found[level]
        shares = {
            label: abs(values[name].value / other[name].value - 1)
            for (label, _), name in NAMES.items()
            if abs(values[name].value - other[name].value) > GOAL_ABSOLUTE
        }
        worst = max(shares, key=lambda label: shares[label], default="")
        furthest = f"{worst}, {shares[worst]:.2%}" if worst else "less than 1e-4"
        within = all(agrees(name, values[name].value, other[name].value) for name in values)
        pairs = [side[name].value for name in ("ppl", "kld_mean") for side in (values, other)]
        cells = [level, *(f"{value:.6f}" for value in pairs), furthest, "yes" if within else "NO"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def rows(ours: Road, theirs: Road) -> list[str]:
    """The table of statistics."""
    lines = [
        "| level | statistic | ours | llama-perplexity's | difference | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    for level, values in ours.found.items():
        for (label, _), name in NAMES.items():
            a, b = values[name], theirs.found[level][name]
            share = f" ({(a.value / b.value - 1) * 100:+.4f} %)" if b.value else ""
            goal = "0.01 %" if name == "ppl" else "1 % or 1e-4"
            reached = "yes" if agrees(name, a.value, b.value) else "NO"
            lines.append(
                f"| {level} | {label} | {_shown(a)} | {_shown(b)} "
                f"| {a.value - b.value:+.2e}{share} | {goal} | {reached} |"
            )
    return lines


def _shown(one: Value) -> str:
    return f"{one.value:.6f}" if one.se is None else f"{one.value:.6f} ± {one.se:.6f}"


def costs(ours: Sequence[Road], theirs: Sequence[Road], largest_bytes: int) -> list[str]:
    """The table of what both took."""
    walls = [[road.wall_s for road in roads] for roads in (ours, theirs)]
    ratios = [a / b for a, b in zip(*walls, strict=True)]
    a, b = (statistics.median(seconds) for seconds in walls)
    spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    peaks = [max(road.peak_bytes for road in roads) / 1e6 for roads in (ours, theirs)]
    above = [peak - largest_bytes / 1e6 for peak in peaks]
    return [
        "| what | ours | llama-perplexity's | ratio (spread) | goal |",
        "|---|---|---|---|---|",
        f"| all levels, s | {a:.1f} | {b:.1f} | {spread} | ≤ 1 |",
        f"| peak memory, MB | {peaks[0]:.0f} | {peaks[1]:.0f} | | |",
        f"| less the largest file, MB | {above[0]:.0f} | {above[1]:.0f} | | < 600 |",
        f"| written to disk, MB | 0 | {theirs[0].file_bytes / 1e6:.0f} | | |",
    ]


def default_levels() -> list[Path]:
    """The default model's files, the best first; those that are missing are made."""
    found = enter(Asked(DEFAULT_MODEL, DEFAULT_LEVELS), Library.default())
    return [entrant.file.path for entrant in found.entrants]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin", type=Path, help="folder with llama-perplexity")
    parser.add_argument("files", type=Path, nargs="*", help="the reference, then levels")
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="print every statistic")
    given = parser.parse_args()
    reference, *levels = given.files or default_levels()
    task = Task(reference, tuple(levels), given.chunks, given.threads)
    ours, theirs = [], []
    for _ in range(given.rounds):
        theirs.append(their_road(given.bin, task))
        ours.append(our_road(task))
    largest = max(path.stat().st_size for path in (task.reference, *task.levels))
    table = rows if given.all else summary
    print(*table(ours[0], theirs[0]), "", *costs(ours, theirs, largest), sep="\n")
    print(f"\n{task.chunks} chunks of {N_CTX} tokens, {task.threads} threads; medians of rounds.")


if __name__ == "__main__":
    main()
