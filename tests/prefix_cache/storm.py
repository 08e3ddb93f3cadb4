"""Four processes at work on one cache, with kills, damages and clocks that jump among them.

``python -m tests.prefix_cache.storm --operations 10000`` prints what came of it as a row of a
Markdown table, and leaves with 1 if a wrong state was handed out or the bound was exceeded.

Every state is computed from its setting and tokens, so whoever loads one knows what it must be. A
process notes each operation by a letter in a file of its own, which outlives it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fwlocal.locks import held
from fwlocal.prefix_cache import Hit, PrefixCache, Setting
from fwlocal.prefix_cache.cache import LOCK_NAME
from fwlocal.prefix_cache.contents import clear, described
from fwlocal.prefix_cache.folder import stored_files
from tests.prefix_cache.kept import SETTING, UNCUTTABLE, roomy, state_of

N_PROCESSES = 4
BOUND_BYTES = 200_000
SETTINGS = (SETTING, replace(SETTING, kv_type="q8_0", model="other"), UNCUTTABLE)
DOCUMENTS = [[random.Random(n).randrange(32000) for _ in range(2400)] for n in range(6)]
CLOCK_JUMPS_S = (0.0, 0.0, 0.0, -1e8, 3600.0, 1e8)
FOUND, MISSED, LOST, PUT, REFUSED, SPOILT, CLEARED, WRONG = "fmlprscW"


def prompt_of(dice: random.Random) -> list[int]:
    """The beginning of a document and a question."""
    document = dice.choice(DOCUMENTS)
    question = [dice.randrange(32000) for _ in range(dice.choice((0, 1, 30, 400)))]
    return document[: dice.randrange(100, len(document))] + question


def size_of(tokens: list[int]) -> int:
    """Of a state: 6,000 to 35,000 bytes."""
    return 5000 + 10 * len(tokens)


class Process:
    """One of those at work: ``step`` does one operation, and tells which by its letter."""

    def __init__(self, root: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.root = root
        self.jump_s = 0.0
        self.cache = PrefixCache(
            root,
            BOUND_BYTES,
            now_ns=lambda: int((time.time() + self.jump_s) * 1e9),
            free_bytes=roomy,
        )

    def step(self) -> str:
        self.jump_s = self.dice.choice(CLOCK_JUMPS_S)
        chance = self.dice.random()
        if chance < 0.55:
            return self.look()
        if chance < 0.95:
            return self.keep()
        return self.spoil() if chance < 0.998 else self.forget()

    def look(self) -> str:
        setting, prompt = self.dice.choice(SETTINGS), prompt_of(self.dice)
        hit = self.cache.find(setting, prompt)
        if hit is None:
            return MISSED
        state = self.cache.load(hit)
        if state is None:
            return LOST
        return FOUND if self.is_right(hit, setting, prompt, bytes(state)) else WRONG

    def is_right(self, hit: Hit, setting: Setting, prompt: list[int], state: bytes) -> bool:
        tokens = [*memoryview(hit.header.tokens).cast("i")]
        return (
            state == bytes(state_of(tokens, setting, size_of(tokens)))
            and tokens[: hit.n_common] == prompt[: hit.n_common]
            and hit.n_common < len(prompt)
            and (setting.can_cut or hit.n_common == len(tokens))
        )

    def keep(self) -> str:
        setting, prompt = self.dice.choice(SETTINGS), prompt_of(self.dice)
        state = state_of(prompt, setting, size_of(prompt))
        return PUT if self.cache.put(setting, prompt, state, 10.0) == "written" else REFUSED

    def spoil(self) -> str:
        """Overwrite, cut or lengthen any of the files, as a failing disk may do."""
        files = stored_files(self.root)
        if files:
            with contextlib.suppress(OSError), open(self.dice.choice(files).path, "r+b") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(self.dice.randrange(size + 1))
                if self.dice.random() < 0.3:
                    file.truncate()
                else:
                    file.write(self.dice.randbytes(self.dice.choice((1, 1, 100))))
        return SPOILT

    def forget(self) -> str:
        clear(self.root)
        return CLEARED


def work(root: Path, seed: int, notes: Path) -> None:
    """Operate until killed."""
    process = Process(root, seed)
    with notes.open("ab", buffering=0) as file:
        while True:
            file.write(process.step().encode())


@dataclass(frozen=True)
class Outcome:
    """``most_bytes`` is the largest size that the cache was seen with, ``n_cut`` how many kills
    fell into the writing of a state."""

    counts: Counter[str]
    n_kills: int
    n_cut: int
    n_entries: int
    most_bytes: int
    n_left: int
    took_s: float

    @property
    def n_operations(self) -> int:
        return sum(self.counts.values())

    @property
    def is_good(self) -> bool:
        wrong = self.counts[WRONG] or self.most_bytes > BOUND_BYTES or self.n_left
        return not wrong and min(self.counts[FOUND], self.counts[PUT], self.n_kills) > 0

    def row(self) -> str:
        counts = self.counts
        cells = (
            self.n_operations,
            N_PROCESSES,
            self.n_kills,
            self.n_cut,
            counts[SPOILT],
            counts[PUT],
            counts[FOUND],
            counts[LOST],
            counts[WRONG],
            f"{self.most_bytes} of {BOUND_BYTES}",
            self.n_left,
            f"{self.took_s:.0f} s",
        )
        return f"| {' | '.join(map(str, cells))} |"


COLUMNS = (
    "operations",
    "processes",
    "kills",
    "of them into a write",
    "files damaged",
    "states written",
    "right hits",
    "found and not handed out",
    "wrong hits",
    "most bytes",
    "leftovers",
    "took",
)
HEADING = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def storm(root: Path, n_operations: int, seed: int = 0) -> Outcome:
    """Have the processes do that many operations, and kill one of them again and again."""
    dice, started = random.Random(seed), time.monotonic()
    notes = root.parent / "notes"
    notes.mkdir(parents=True)
    n_kills, n_cut, most_bytes = 0, 0, 0
    with _processes(root, notes, dice) as running:
        while (n_done := _n_done(notes)) < n_operations:
            _wait_for(notes, n_done + dice.randrange(5, 50), running)
            time.sleep(dice.uniform(0, 0.03))  # into whatever they are doing then
            dead = running.pop(dice.randrange(len(running)))
            dead.kill()
            dead.wait()
            n_kills += 1
            n_cut += _was_writing(root, dead.pid)
            running.append(_start(root, notes, dice))
            most_bytes = max(most_bytes, _settled_bytes(root))
    counts = Counter("".join(path.read_text() for path in notes.iterdir()))
    most_bytes = max(most_bytes, _settled_bytes(root))
    return Outcome(
        counts=counts,
        n_kills=n_kills,
        n_cut=n_cut,
        n_entries=len(described(root)),
        most_bytes=most_bytes,
        n_left=_n_left(root),
        took_s=time.monotonic() - started,
    )


@contextlib.contextmanager
def _processes(
    root: Path, notes: Path, dice: random.Random
) -> Iterator[list[subprocess.Popen[bytes]]]:
    running = [_start(root, notes, dice) for _ in range(N_PROCESSES)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def _start(root: Path, notes: Path, dice: random.Random) -> subprocess.Popen[bytes]:
    seed = dice.randrange(10**9)
    options = ["--work", str(root), "--seed", str(seed), "--notes", str(notes / str(seed))]
    return subprocess.Popen([sys.executable, "-m", "tests.prefix_cache.storm", *options])


def _n_done(notes: Path) -> int:
    return sum(path.stat().st_size for path in notes.iterdir())


def _wait_for(notes: Path, n_operations: int, running: list[subprocess.Popen[bytes]]) -> None:
    while _n_done(notes) < n_operations:
        if any(process.poll() is not None for process in running):
            raise RuntimeError("a process ended by itself")
        time.sleep(0.005)


def _was_writing(root: Path, pid: int) -> bool:
    return any(file.is_growing and f".{pid}-" in file.name for file in stored_files(root))


def _settled_bytes(root: Path) -> int:
    """All that the cache takes while nobody writes, with what the killed left behind."""
    if not root.exists():
        return 0
    with held(root / LOCK_NAME, "looking at its size", wait=True):
        return sum(file.size_bytes for file in stored_files(root))


def _n_left(root: Path) -> int:
    """How many files of killed writers are left after one more state is kept."""
    process = Process(root, seed=1)
    if PUT not in (process.keep() for _ in range(100)):
        raise RuntimeError("nothing can be kept any more")
    return sum(file.is_growing for file in stored_files(root))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--notes", type=Path)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work, options.seed, options.notes)
    with tempfile.TemporaryDirectory() as folder:
        outcome = storm(Path(folder) / "prefixes", options.operations, options.seed)
    print(HEADING)
    print(outcome.row())
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
