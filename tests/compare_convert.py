"""Side by side with llama.cpp's converter: ``python -m tests.compare_convert BIN PYTHON SCRIPT``.

Prints, as a Markdown table, whether every level is byte-identical to convert_hf_to_gguf.py and
llama-quantize, whether their files answer the same, how long both take (in turns; a ratio is the
median of the rounds' ratios), peak memory at the shapes of a 70B, what is written to disk, and
whether kill -9 changes a byte.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import psutil

import fwlocal
from convert.recipes import LEVELS
from fwlocal.engine import Engine
from fwlocal.hardware import physical_cores
from fwlocal.loader import Library, open_file
from fwlocal.registry import DEFAULT_MODEL
from tests.compare import greedy
from tests.convert.checkpoints import config_of, write_checkpoint, write_random
from tests.convert.real_checkpoint import write_real_checkpoint
from tests.convert.reference import tensor_bytes, write_imatrix
from tests.tiny_llama import Shape

FOUR = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M")
CASES = {
    ("f32", "safetensors", "grouped queries"): Shape(256, 512, 8, 4, 2, vocab_size=512),
    ("f16", "bin", "all heads"): Shape(256, 768, 4, 4, 4, vocab_size=512),
    ("bf16", "safetensors", "tied"): Shape(
        512, 256, 4, 8, 2, vocab_size=512, tie_word_embeddings=True
    ),
    ("bf16", "bin", "widths no multiple of 256"): Shape(96, 160, 4, 3, 1, vocab_size=512),
}
BIG = Shape(1024, 2816, 20, 16, 16, vocab_size=32000)  # 1.29 GB in F32
LAYER_OF_70B = Shape(8192, 28672, 1, 64, 8, vocab_size=32000)
PROVENANCE = ("fwlocal.", "general.name", "GGUF.", "quantize.imatrix.")


@dataclass(frozen=True)
class Upstream:
    """llama.cpp's own road: a Python with torch, the script, and the folder of llama-quantize."""

    python: Path
    script: Path
    tools: Path

    def convert(self, source: Path, out: Path, outtype: str) -> None:
        """The unquantized GGUF."""
        command = [self.python, self.script, source, "--outtype", outtype, "--outfile", out]
        _run(command)

    def quantize(self, source: Path, out: Path, level: str, imatrix: Path | None = None) -> None:
        """One level of it."""
        options = ["--imatrix", imatrix] if imatrix else []
        _run([self.tools / "llama-quantize", *options, source, out, level])

    def levels(self, source: Path, out: Path, levels: tuple[str, ...]) -> None:
        """From an F32 checkpoint to several levels."""
        self.convert(source, out / "f32.gguf", "f32")
        for level in levels:
            self.quantize(out / "f32.gguf", out / f"{level}.gguf", level)


def _run(command: list[object]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.decode()[-2000:]}")


def ours(source: Path, out: Path, levels: tuple[str, ...], *options: str) -> list[str]:
    """The command of our side."""
    program = str(Path(sys.executable).with_name("fwlocal"))
    arguments = ["convert", str(source), "--quant", ",".join(levels), "--out", str(out)]
    return [program, *arguments, "--name", "m", "--overwrite", *options]


def identical(upstream: Upstream, folder: Path) -> list[str]:
    """A row for each case: how many levels have the same tensors in the same order, and keys."""
    rows = []
    for (dtype, layout, what), shape in CASES.items():
        case = folder / f"{dtype}-{layout}"
        source = write_checkpoint(case / "m", shape, dtype=dtype.upper(), layout=layout, shards=2)
        imatrix = case / "imatrix.gguf"
        write_imatrix(imatrix, shape)
        upstream.convert(source, case / "source.gguf", dtype)
        _run([*ours(source, case, tuple(LEVELS), "--imatrix", str(imatrix))])
        same = 0
        for level in LEVELS:
            theirs = case / "theirs.gguf"
            upstream.quantize(case / "source.gguf", theirs, level, imatrix)
            mine = case / f"m-{level}.gguf"
            equal = list(tensor_bytes(mine).items()) == list(tensor_bytes(theirs).items())
            same += equal and _keys(mine) == _keys(theirs)
        label = f"levels with the same bytes and keys, {dtype} {layout}, {what}"
        rows.append(f"| {label} | {same} of {len(LEVELS)} | | | all |")
        shutil.rmtree(case)
    return rows


def _keys(path: Path) -> dict[str, object]:
    return {
        key: (field.types, field.contents())
        for key, field in gguf.GGUFReader(path).fields.items()
        if not key.startswith(PROVENANCE)
    }


def real_model(upstream: Upstream, folder: Path) -> list[str]:
    """Rows: greedy answers of the embedded model, converted by us and by llama.cpp."""
    model, _ = open_file(DEFAULT_MODEL, Library.default(), print)
    source = write_real_checkpoint(folder / "real", model.path)
    theirs = folder / "theirs.gguf"
    upstream.convert(source, folder / "f16.gguf", "f16")
    upstream.quantize(folder / "f16.gguf", theirs, "Q8_0")
    _run([*ours(source, folder, ("Q8_0",))])
    threads = physical_cores()
    with fwlocal.load(str(folder / "m-Q8_0.gguf"), n_threads=threads, n_ctx=1024) as engine:
        if not isinstance(engine, Engine):
            raise TypeError("the engine is in another process")
        return greedy(engine, upstream.tools, theirs, threads)


def speed(upstream: Upstream, folder: Path, rounds: int) -> list[str]:
    """A row for all four levels, and one for Q4_K_M alone."""
    source = folder / "big"
    _elsewhere(write_checkpoint, source, BIG, layout="bin", shards=3)
    rows = []
    for levels, goal in ((FOUR, "≤ 0.85"), (FOUR[-1:], "≤ 0.70")):
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for side in (0, 1):
                out = folder / "out"
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                os.sync()
                started = time.perf_counter()
                if side == 0:
                    _run([*ours(source, out, levels)])
                else:
                    upstream.levels(source, out, levels)
                seconds[side].append(time.perf_counter() - started)
        ratios = sorted(a / b for a, b in zip(*seconds, strict=True))
        a, b = map(statistics.median, seconds)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        label = f"1.29 GB of fp32 .bin shards to {' + '.join(levels)}, s"
        median = statistics.median(ratios)
        rows.append(f"| {label} | {a:.1f} | {b:.1f} | {median:.3f} ({spread}) | {goal} |")
    peak, written = _elsewhere(_watched, ours(source, folder / "out", FOUR))
    size = sum(path.stat().st_size for path in (folder / "out").glob("m-*.gguf"))
    rows.append(f"| the same, peak memory, MB | {peak / 1e6:.0f} | | | < 1500 |")
    rows.append(f"| the same, written / size of the files | {written / size:.3f} | | | 1 |")
    return rows


def _elsewhere(function: Callable[..., Any], *arguments: object, **options: object) -> Any:
    """Call it in a process of its own: what this one holds would count as its children's peak."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def memory(folder: Path) -> list[str]:
    """A row for one layer of a 70B with its embedding and output."""
    source = write_checkpoint(folder / "70b", config=config_of(LAYER_OF_70B, "BF16"))
    _elsewhere(write_random, source / "model.safetensors", LAYER_OF_70B)
    peak, _ = _elsewhere(_watched, ours(source, folder / "out", ("Q4_K_M", "Q8_0")))
    shutil.rmtree(source)
    label = "a layer of 70B shape to Q4_K_M + Q8_0, peak memory, MB"
    return [f"| {label} | {peak / 1e6:.0f} | | | < 1500 |"]


def _watched(command: list[str]) -> tuple[int, int]:
    """Peak memory of a process, and the bytes it wrote (0 where the system does not tell)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    written = 0
    watched = psutil.Process(process.pid)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if hasattr(watched, "io_counters") and watched.status() != psutil.STATUS_ZOMBIE:
            written = getattr(watched.io_counters(), "write_chars", 0)
        time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} left with {process.returncode}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), written


def killed(folder: Path, times: int) -> list[str]:
    """A row: runs killed at random moments and run again, with the same SHA-256 at their end."""
    source = write_checkpoint(folder / "m", Shape(1024, 2048, 4, 16, 4, vocab_size=512))
    command = ours(source, folder / "out", ("Q4_K_M", "Q8_0"))
    command.remove("--overwrite")
    out = folder / "out"
    started = time.perf_counter()
    _run([*command])
    lasts = time.perf_counter() - started
    expected = _hashes(out)
    moments, same = random.Random(0), 0
    for _ in range(times):
        shutil.rmtree(out)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0, lasts))
        process.kill()
        process.wait()
        _run([*command])
        same += _hashes(out) == expected
    return [f"| the same SHA-256 after kill -9 at a random moment | {same} of {times} | | | all |"]


def _hashes(out: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.gguf")}


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", type=Path, help="folder with llama-quantize and llama-completion")
    parser.add_argument("python", type=Path, help="a Python with torch and transformers")
    parser.add_argument("script", type=Path, help="convert_hf_to_gguf.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["identical", "real", "speed", "memory", "killed"])
    arguments = parser.parse_args()
    upstream = Upstream(arguments.python, arguments.script, arguments.tools)
    print("| what | ours | llama.cpp's | ratio (spread) | goal |")
    print("|---|---|---|---|---|")
    parts: dict[str, Callable[[Path], list[str]]] = {
        "identical": lambda folder: identical(upstream, folder),
        "real": lambda folder: real_model(upstream, folder),
        "speed": lambda folder: speed(upstream, folder, arguments.rounds),
        "memory": memory,
        "killed": lambda folder: killed(folder, 20),
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="fwlocal-compare-") as folder:
                print(*part(Path(folder)), sep="\n", flush=True)
    print(f"\n{os.cpu_count()} cores; medians of {arguments.rounds} rounds in turns.")


if __name__ == "__main__":
    main()
