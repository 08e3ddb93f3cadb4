"""Side by side with llama-imatrix: ``python -m tests.compare_imatrix BIN [--model FILE]``.

Prints, as a Markdown table: how far our importance matrix's entries are from llama-imatrix's of
the same text and chunks, for a real model, a random one and one with experts, chunk by chunk as
ours and several at once as it does by itself, which adds in another order; how long both take (in
turns; a ratio is the median of the rounds' ratios); whether a run that is killed again and
again ends in the same bytes; and whether what is converted by our matrix has the same bytes as
what llama-quantize makes with it.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.imatrix import Sums, read_sums
from convert.recipes import LEVELS
from fwlocal.bench.text import SHIPPED
from fwlocal.hardware import physical_cores
from fwlocal.loader import Library, open_file
from fwlocal.registry import DEFAULT_MODEL
from tests.convert.reference import tensor_bytes
from tests.llama.tiny_experts import write_experts
from tests.tiny_llama import Shape, write_gguf

GOAL = 1e-4
WIDE = Shape(256, 512, 4, 4, 2, max_position_embeddings=2048, vocab_size=273)


@dataclass(frozen=True)
class Text:
    """What is read: so many chunks of so many tokens, by so many threads."""

    path: Path
    n_chunks: int
    n_ctx: int
    n_threads: int


@dataclass(frozen=True)
class Sides:
    """Both programs; theirs lies in the folder ``tools``."""

    tools: Path
    text: Text

    def ours(self, model: Path, out: Path) -> list[str]:
        """Our command."""
        text = self.text
        numbers = ["--n-ctx", text.n_ctx, "--chunks", text.n_chunks, "--threads", text.n_threads]
        paths = ["-m", model, "--text", text.path, "--out", out]
        return [*_program(), "imatrix", *map(str, [*paths, *numbers])]

    def theirs(self, model: Path, out: Path, *more: str) -> list[str]:
        """Theirs, for the same."""
        text = self.text
        numbers = ["-c", text.n_ctx, "--chunks", text.n_chunks, "-t", text.n_threads]
        paths = ["-m", model, "-f", text.path, "-o", out]
        return [str(self.tools / "llama-imatrix"), *map(str, [*paths, *numbers]), *more]


def _program() -> list[str]:
    return [sys.executable, "-m", "fwlocal"]


def _run(command: list[str]) -> float:
    """Seconds that it took."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.decode()[-2000:]}")
    return time.perf_counter() - started


def entries(sides: Sides, folder: Path, label: str, model: Path, rounds: int) -> list[str]:
    """Rows for one model: entries, counts, seconds."""
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        ours.unlink(missing_ok=True)
        seconds[0].append(_run(sides.ours(model, ours)))
        seconds[1].append(_run(sides.theirs(model, theirs)))
    mine, at_once = read_sums(ours), read_sums(theirs)
    _run(sides.theirs(model, theirs, "-b", str(sides.text.n_ctx)))
    other = read_sums(theirs)
    ratios = sorted(a / b for a, b in zip(*seconds, strict=True))
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    medians = " | ".join(f"{statistics.median(side):.1f}" for side in seconds)
    counts = f"{mine.n_chunks} and {other.n_chunks} chunks"
    same = "all" if _same_counts(mine, other) else "not all"
    return [
        f"| {label}: tensors | {len(mine.entries)} | {len(other.entries)} | | the same |",
        f"| {label}: counts that are equal | {same} ({counts}) | | | all |",
        f"| {label}: largest relative difference | {_furthest(mine, other):.1e} | | | ≤ {GOAL} |",
        f"| {label}: the same, chunks at once | {_furthest(mine, at_once):.1e} | | | ≤ {GOAL} |",
        f"| {label}: seconds | {medians} | {spread} | |",
    ]


def _same_counts(mine: Sums, other: Sums) -> bool:
    return mine.entries.keys() == other.entries.keys() and all(
        entry.counts.tolist() == other.entries[name].counts.tolist()
        for name, entry in mine.entries.items()
    )


def _furthest(mine: Sums, other: Sums) -> float:
    """The largest relative difference of any entry."""
    return max(
        float(np.max(np.abs(entry.sums - theirs) / np.maximum(theirs, np.finfo(np.float32).tiny)))
        for name, entry in mine.entries.items()
        for theirs in [other.entries[name].sums.astype(np.float64)]
    )


def converted(sides: Sides, folder: Path, label: str, model: Path) -> list[str]:
    """A row: the levels of which both converters make the same tensors, with our matrix."""
    matrix = folder / "matrix.gguf"
    _run(sides.ours(model, matrix))
    options = ["--imatrix", str(matrix), "--out", str(folder), "--name", "m", "--overwrite"]
    _run([*_program(), "convert", str(model), "--quant", ",".join(LEVELS), *options])
    same = 0
    for level in LEVELS:
        theirs = folder / "theirs.gguf"
        quantize = [str(sides.tools / "llama-quantize"), "--imatrix", str(matrix)]
        _run([*quantize, str(model), str(theirs), level])
        mine = tensor_bytes(folder / f"m-{level}.gguf")
        same += list(mine.items()) == list(tensor_bytes(theirs).items())
    return [f"| {label}: levels with the same bytes | {same} of {len(LEVELS)} | | | all |"]


def killed(sides: Sides, folder: Path, model: Path, times: int) -> list[str]:
    """A row: runs that were killed at random moments and run again, with the same bytes."""
    at_once, out = folder / "at-once.gguf", folder / "killed.gguf"
    lasts = _run(sides.ours(model, at_once))
    moments, same = random.Random(0), 0
    for _ in range(times):
        out.unlink(missing_ok=True)
        for _ in range(2):
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(sides.ours(model, out), stdout=quiet, stderr=quiet)
            time.sleep(moments.uniform(0, lasts))
            process.kill()
            process.wait()
        _run(sides.ours(model, out))
        same += out.read_bytes() == at_once.read_bytes()
    return [
        f"| the same bytes after kill -9, twice, at a random moment | {same} of {times} | | | all |"
    ]


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", type=Path, help="folder with llama-imatrix and llama-quantize")
    parser.add_argument("--model", type=Path, help="a real model; by default the embedded one")
    parser.add_argument("--text", type=Path, default=SHIPPED)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--only", choices=["real", "random", "experts", "converted", "killed"])
    asked = parser.parse_args()
    sides = Sides(asked.tools, Text(asked.text, asked.chunks, asked.n_ctx, asked.threads))
    parts: dict[str, Callable[[Path], list[str]]] = {
        "real": lambda at: entries(sides, at, "real model", _real(asked.model), asked.rounds),
        "random": lambda at: entries(sides, at, "random Llama", _wide(at), asked.rounds),
        "experts": lambda at: entries(sides, at, "random experts", _experts(at), asked.rounds),
        "converted": lambda at: converted(sides, at, "random Llama", _wide(at)),
        "killed": lambda at: killed(sides, at, _wide(at), asked.kills),
    }
    print("| what | ours | llama.cpp's | ratio (spread) | goal |")
    print("|---|---|---|---|---|")
    for name, part in parts.items():
        if asked.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="fwlocal-compare-") as folder:
                print(*part(Path(folder)), sep="\n", flush=True)
    print(
        f"\n{os.cpu_count()} cores, {asked.threads} threads; {asked.chunks} chunks of "
        f"{asked.n_ctx} tokens; medians of {asked.rounds} rounds in turns."
    )


def _real(model: Path | None) -> Path:
    return model or open_file(DEFAULT_MODEL, Library.default(), print)[0].path


def _wide(folder: Path) -> Path:
    return write_gguf(folder / "random.gguf", WIDE)


def _experts(folder: Path) -> Path:
    return write_experts(folder / "experts.gguf", Shape(max_position_embeddings=2048))


if __name__ == "__main__":
    main()
