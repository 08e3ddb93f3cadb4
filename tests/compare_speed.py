"""Speed beside llama-bench's: ``python -m tests.compare_speed BIN [--model FILE ...]``.

Prints, as a Markdown table, each test's tok/s by ``fwlocal.bench`` and by the llama-bench in the
folder BIN. The two run in turns, each from the load of the model on, so that a machine whose speed
drifts favours neither; the first round warms both up and does not count. A ratio is the median of
the rounds' ratios, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fwlocal.bench.measured import Entrant
from fwlocal.bench.result import SpeedTest
from fwlocal.bench.speed import measure, possible, series
from fwlocal.hardware import default_threads
from fwlocal.loader import EngineOptions, Library, open_file
from fwlocal.registry import DEFAULT_MODEL

GOAL = (0.97, 1.03)
HEAD = ("model", "test", "fwlocal tok/s", "llama-bench tok/s", "ratio", "goal")


def ours(entrant: Entrant, tests: Sequence[SpeedTest], threads: int, seed: int) -> list[float]:
    """One round of fwlocal's, in the order of ``tests``."""
    options = EngineOptions(n_threads=threads, kv_type="f16", mmap=True)  # as it has them
    return [tps for _, tps in measure(entrant, options, tests, cold=False, seed=seed).speeds]


def theirs(binary: Path, model: Path, tests: Sequence[SpeedTest], threads: int) -> list[float]:
    """One round of llama-bench's, in the order of ``tests``."""
    lists = {
        "-p": sorted({test.n_prompt for test in tests} - {0}),
        "-n": sorted({test.n_gen for test in tests} - {0}),
        "-d": sorted({test.n_depth for test in tests}),
    }
    command = [str(binary / "llama-bench"), "-m", str(model), "-t", str(threads)]
    for option, values in lists.items():
        command += [option, ",".join(map(str, values or [0]))]
    done = subprocess.run([*command, "-r", "1", "-o", "json"], capture_output=True, check=True)
    found = {
        SpeedTest(row["n_prompt"], row["n_gen"], row["n_depth"]): float(row["avg_ts"])
        for row in json.loads(done.stdout)
    }
    return [found[test] for test in tests]


def rows(
    name: str, tests: Sequence[SpeedTest], turns: Sequence[tuple[list[float], list[float]]]
) -> list[str]:
    """The table's rows of one model."""
    lines = []
    for index, test in enumerate(tests):
        own, other = ([side[index] for side in sides] for sides in zip(*turns, strict=True))
        ratios = sorted(a / b for a, b in zip(own, other, strict=True))
        ratio = statistics.median(ratios)
        is_met = GOAL[0] <= ratio <= GOAL[1]
        cells = (
            name,
            test.name,
            f"{statistics.median(own):.1f}",
            f"{statistics.median(other):.1f}",
            f"{ratio:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})",
            f"{GOAL[0]} to {GOAL[1]}{'' if is_met else ', missed'}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def compare(binary: Path, model: str, options: argparse.Namespace) -> list[str]:
    """Measure one model on both sides, in turns."""
    entrant = Entrant("", *open_file(model, Library.default()))
    wanted = series(options.n_prompt, options.n_gen, options.depths)
    tests = possible(wanted, entrant.header)
    path, threads = entrant.file.path, options.threads
    turns = []
    for round_ in range(options.rounds + 1):
        # Who begins changes, too: the second finds a warmer machine.
        sides = {0: list[float](), 1: list[float]()}
        for side in (round_ % 2, 1 - round_ % 2):
            sides[side] = (
                theirs(binary, path, tests, threads)
                if side
                else ours(entrant, tests, threads, round_)
            )
        turns.append((sides[0], sides[1]))
    return rows(path.name, tests, turns[1:])


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("binary", type=Path, metavar="BIN", help="the folder of llama-bench")
    parser.add_argument("--model", action="append", help="a name or a file; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--n-prompt", type=int, default=512)
    parser.add_argument("--n-gen", type=int, default=128)
    parser.add_argument(
        "--depths", type=lambda text: [int(part) for part in text.split(",")], default=[0, 2048]
    )
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for model in options.model or [DEFAULT_MODEL]:
        print("\n".join(compare(options.binary, model, options)), flush=True)


if __name__ == "__main__":
    main()
