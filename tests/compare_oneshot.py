"""A one-shot beside llama-completion: ``python -m tests.compare_oneshot BIN [--model FILE]``.

Prints, as a Markdown table, the seconds from a process's start to its end and its peak memory, with
the llama-completion in the folder BIN beside: of an answer of 16 tokens to a question alone, cold;
and to a question about a file of 1,500 tokens, which the prefix cache has from an earlier question,
while the other side reads all of it. Each round asks another question. The two sides run in turns,
so that a machine whose speed drifts favours neither; the first round, which also fills the cache,
does not count. A ratio is the median of the rounds' ratios, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fwlocal import llama
from fwlocal.attachments import read_attachments
from fwlocal.bench.text import SHIPPED
from fwlocal.hardware import physical_cores
from fwlocal.loader import Library, open_file
from fwlocal.oneshot import joined
from fwlocal.preview import Question, prompt_text
from fwlocal.registry import DEFAULT_MODEL

N_ANSWER = 16
N_FILE = 1500  # tokens
MIB = 2**20
HEAD = ("what", "fwlocal run", "llama-completion", "ratio (spread)", "goal")
SUBJECTS = ("the sea", "a harbour", "winter", "an old ship", "the moon", "a storm", "bread", "rain")


@dataclass(frozen=True)
class Measured:
    """A process from start to end; ``text`` is what it printed."""

    seconds: float
    peak_bytes: int
    text: str


@dataclass(frozen=True)
class Sides:
    """How both are called: the model by the name that fwlocal knows, and its file."""

    binary: Path
    model: str
    file: Path
    threads: int

    def ours(self, question: str, *options: str) -> list[str]:
        """fwlocal's command. Nothing but the prefix cache may differ from plain evaluation."""
        command = [sys.executable, "-m", "fwlocal", "run", "-m", self.model, "--no-tuned"]
        command += ["--max-tokens", str(N_ANSWER), "--temp", "0", "--repeat-penalty", "1"]
        return [*command, "--threads", str(self.threads), *options, question]

    def theirs(self, prompt: str) -> list[str]:
        """llama-completion's command, for the whole prompt."""
        command = [str(self.binary / "llama-completion"), "-m", str(self.file), "-no-cnv"]
        command += ["-n", str(N_ANSWER), "--temp", "0", "-t", str(self.threads), "--no-escape"]
        return [*command, "--no-display-prompt", "-p", prompt]

    def prompt(self, asked: str) -> str:
        """What fwlocal makes of a text."""
        question = Question(self.model, asked, system=None, prompt_format=None)
        return prompt_text(question, Library.default(), print)


def measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """A process, run to its end. Leaves the program where it fails."""
    with tempfile.TemporaryFile() as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[0]} left with {process.returncode}")
        printed.seek(0)
        said = printed.read().decode("utf-8", "replace")
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(seconds, peak_bytes, said)


def in_turns(
    rounds: int, commands: Callable[[int], tuple[list[str], list[str]]], folder: Path
) -> list[tuple[Measured, Measured]]:
    """Both sides' processes in each round but the first. Which is first, changes. Ours keeps its
    prefixes below ``folder``, and its compiled modules, as where it is installed."""
    own = {**os.environ, "FWLOCAL_CACHE": str(folder), "PYTHONPYCACHEPREFIX": str(folder / "pyc")}
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    turns = []
    for index in range(rounds + 1):
        ours, theirs = commands(index)
        if index % 2:
            other = measured(theirs)
            turns.append((measured(ours, own), other))
        else:
            turns.append((measured(ours, own), measured(theirs)))
    return turns[1:]


def rows(label: str, turns: Sequence[tuple[Measured, Measured]], goal: str) -> list[str]:
    """The table's rows of one comparison: seconds and peak memory."""
    seconds = [(ours.seconds, theirs.seconds) for ours, theirs in turns]
    peaks = [(ours.peak_bytes / MIB, theirs.peak_bytes / MIB) for ours, theirs in turns]
    return [
        f"| {label}, s | {row_of(seconds)} | {goal} |",
        f"| {label}, peak MiB | {row_of(peaks)} | |",
    ]


def row_of(pairs: Sequence[tuple[float, float]]) -> str:
    """Three cells: both sides' medians with their spread, and the ratio with its own."""
    ratios = [a / b for a, b in pairs]
    return " | ".join(map(_spread, (*zip(*pairs, strict=True), ratios)))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def cold(sides: Sides, rounds: int, folder: Path) -> list[str]:
    """A question alone, and nothing kept."""

    def commands(index: int) -> tuple[list[str], list[str]]:
        question = f"Write a poem about {SUBJECTS[index % len(SUBJECTS)]}"
        return sides.ours(question, "--no-cache"), sides.theirs(sides.prompt(question))

    return rows(f"{N_ANSWER}-token answer", in_turns(rounds, commands, folder), "≤ 1.10")


def about_a_file(sides: Sides, rounds: int, folder: Path) -> list[str]:
    """Other questions about a file that was asked about before."""
    path = folder / "report.txt"
    path.write_text(beginning(sides.file, N_FILE), encoding="utf-8", newline="\n")
    files = read_attachments((str(path),))

    def commands(index: int) -> tuple[list[str], list[str]]:
        question = f"In one sentence, what does paragraph {index + 1} say?"
        prompt = sides.prompt(joined(question, files, ""))
        return sides.ours(question, "-f", str(path)), sides.theirs(prompt)

    label = f"{N_ANSWER}-token answer, {N_FILE}-token file kept"
    turns = in_turns(rounds, commands, folder)
    ours, _ = commands(rounds)
    same = "yes" if measured([*ours, "--no-cache"]).text == turns[-1][0].text else "no"
    return [
        *rows(label, turns, "≤ 0.5"),
        f"| the text without the cache is it, too | {same} | | | |",
    ]


def beginning(model: Path, n_tokens: int) -> str:
    """The beginning of a book, of so many tokens."""
    vocabulary = llama.Model(model, llama.LoadOptions(vocab_only=True))
    try:
        book = SHIPPED.read_text(encoding="utf-8")[: 16 * n_tokens]
        ids = vocabulary.tokenize(book, special=False)
        return b"".join(map(vocabulary.piece, ids[:n_tokens])).decode("utf-8", "ignore")
    finally:
        vocabulary.close()


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin", type=Path, help="folder with llama-completion")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=physical_cores())
    arguments = parser.parse_args()
    file, _ = open_file(arguments.model, Library.default(), print)
    sides = Sides(arguments.bin, arguments.model, file.path, arguments.threads)
    print(f"| {' | '.join(HEAD)} |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for compare in (cold, about_a_file):
            print(*compare(sides, arguments.rounds, Path(folder)), sep="\n", flush=True)
    print(
        f"\n{arguments.threads} threads; medians of {arguments.rounds} rounds (least to greatest)."
    )


if __name__ == "__main__":
    main()
