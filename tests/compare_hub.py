"""The model library measured against a Hub on loopback: ``python -m tests.compare_hub``.

Prints, as a Markdown table, what a checkpoint of 1.29 GB costs when it is streamed from the server
instead of read from the disk (bytes, time in turns, disk), what is fetched twice when connections
are cut and the program is killed, and whether the files are the same; and the same for a plain
download of 2 GB.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from convert.sources.checkpoint import open_checkpoint
from convert.sources.location import locate
from tests.convert import checkpoints
from tests.hub_server import HubServer, Seen, client_environment
from tests.sound_gguf import write_sound_gguf
from tests.tiny_llama import Shape

BIG = Shape(1024, 2816, 20, 16, 16, vocab_size=32000)  # 1.29 GB in F32
LEVELS = ("Q8_0", "Q4_K_M")
ROUNDS, N_CUTS, N_KILLS = 3, 30, 10
LARGE_BYTES = 2_000_000_000
MB = 1e6


class Bench:
    """A folder to work in, and the server."""

    def __init__(self, folder: Path, server: HubServer) -> None:
        self.folder, self.server = folder, server
        self.hub_home = folder / "hub"

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        environment = client_environment(self.server, self.hub_home)
        environment["FWLOCAL_HOME"] = str(self.folder / "store")
        command = [sys.executable, "-m", "fwlocal", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    def run(self, *arguments: str | Path) -> float:
        """Seconds that it took."""
        started = time.perf_counter()
        process = self.start(*arguments)
        if process.wait():
            raise SystemExit(f"fwlocal {' '.join(map(str, arguments))}: left with an error")
        return time.perf_counter() - started

    @contextmanager
    def out(self) -> Iterator[Path]:
        """An empty folder for the files of one conversion."""
        folder = self.folder / "out"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def sha256s(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.gguf")
    }


def folder_bytes(*folders: Path) -> int:
    """What is allocated on the disk below them."""
    files = (path for folder in folders if folder.exists() for path in folder.rglob("*"))
    return sum(path.stat().st_blocks * 512 for path in files if path.is_file())


def convert(source: str | Path, out: Path) -> tuple[str | Path, ...]:
    return ("convert", source, "-q", ",".join(LEVELS), "-o", out, "--name", "x")


def add_checkpoint(bench: Bench, form: str) -> tuple[str, Path, int]:
    """A repository on the server, the same files as Hugging Face's cache lays them out on the disk,
    so that both conversions know the same of their source, and the bytes of its tensors."""
    repo = f"owner/{form}"
    made = checkpoints.write_checkpoint(bench.folder / form, BIG, layout=form, shards=3)
    files = {path.name: path for path in made.iterdir()}
    commit = bench.server.add(repo, dict(files))
    local = bench.folder / f"models--owner--{form}" / "snapshots" / commit
    local.parent.mkdir(parents=True)
    made.rename(local)
    bench.server.add(repo, {path.name: path for path in local.iterdir()})
    source = open_checkpoint(locate(str(local)))
    size_bytes = sum(tensor.size_bytes for tensor in source.tensors.values())
    source.close()
    return repo, local, size_bytes


def row(what: str, value: str, goal: str) -> str:
    return f"| {what} | {value} | {goal} |"


def compare_forms(bench: Bench, form: str) -> list[str]:
    """Bytes, files and time of the streamed conversion beside the local one."""
    repo, local, tensor_bytes = add_checkpoint(bench, form)
    sent, ratios, same, peak = [], [], 0, 0.0
    for _ in range(ROUNDS):
        with bench.out() as out:
            local_s = bench.run(*convert(local, out))
            expected = sha256s(out)
        with bench.out() as out:
            bench.server.reset_counts()
            remote_s = bench.run(*convert(repo, out))
            sent.append(bench.server.sent_bytes)
            got = sha256s(out)
            outputs = sum(path.stat().st_size for path in out.glob("*.gguf"))
            peak = folder_bytes(out, bench.hub_home) / outputs
        same += got == expected
        ratios.append(local_s / remote_s)
        print(f"{form}: {local_s:.1f} s local, {remote_s:.1f} s streamed", file=sys.stderr)
    name = f"{tensor_bytes / 1e9:.2f} GB of fp32 {form} to {' + '.join(LEVELS)}"
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    return [
        row(f"{name}: the same files as from the disk", f"{same} of {ROUNDS}", "all"),
        row(f"{name}: fetched / size of the tensors", f"{max(sent) / tensor_bytes:.4f}", "≤ 1.02"),
        row(f"{name}: on the disk / size of the outputs", f"{peak:.3f}", "1"),
        row(
            f"{name}: throughput / that from the disk",
            f"{statistics.median(ratios):.3f} {spread}",
            "≥ 0.9",
        ),
    ]


def interrupted(bench: Bench, form: str) -> list[str]:
    """The streamed conversion with connections cut, and with the program killed."""
    repo, local = f"owner/{form}", next(bench.folder.glob(f"models--owner--{form}/snapshots/*"))
    chance = random.Random(0)
    with bench.out() as out:
        bench.server.reset_counts()
        bench.run(*convert(local, out))
        expected = sha256s(out)
    with bench.out() as out:
        bench.run(*convert(repo, out))
        clean = bench.server.sent_bytes
    with bench.out() as out:
        bench.server.reset_counts()
        bench.server.cut([chance.randrange(clean) for _ in range(N_CUTS)])
        bench.run(*convert(repo, out))
        cut_same = sha256s(out) == expected
        per_cut = (bench.server.sent_bytes - clean) / N_CUTS
    bench.server.cut([])
    with bench.out() as out:
        twice = kill_until_done(bench, convert(repo, out), clean, chance)
        killed_same = sha256s(out) == expected
    return [
        row(f"{form}, {N_CUTS} connections cut: the same files", str(cut_same), "True"),
        row("fetched twice for each, MB", f"{max(per_cut, 0) / MB:.2f}", "≤ 64"),
        row(f"{form}, killed {N_KILLS} times: the same files", str(killed_same), "True"),
        row(
            "fetched twice for each, MB: median (most)",
            f"{statistics.median(twice) / MB:.1f} ({max(twice) / MB:.1f})",
            "≤ 64, or a tensor (131)",
        ),
    ]


def kill_until_done(
    bench: Bench, arguments: Sequence[str | Path], total: int, chance: random.Random
) -> list[float]:
    """Kill the command N_KILLS times after a random share of the rest; what each following run
    fetched that an earlier one had fetched."""
    seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
    twice: list[float] = []
    sent_before = 0
    for kill in range(N_KILLS + 1):
        bench.server.reset_counts()
        process = bench.start(*arguments)
        if kill < N_KILLS:
            share = chance.random() * 2 / (N_KILLS - kill + 1)
            aim = max(1 << 20, share * max(total - sent_before, 0))
            while process.poll() is None and bench.server.sent_bytes < aim:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        if code not in (0, -signal.SIGKILL):
            raise SystemExit(f"left with {code}")
        time.sleep(0.5)
        fetched = ranges(bench.server.requests)
        again = sum(overlap(seen[path], spans) for path, spans in fetched.items())
        if kill:
            twice.append(again)
        for path, spans in fetched.items():
            seen[path] += spans
        sent_before += bench.server.sent_bytes - int(again)
    return twice


def ranges(requests: Sequence[Seen]) -> dict[str, list[tuple[int, int]]]:
    """What was sent of each large file."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for seen in requests:
        if seen.where == "cdn" and seen.range and seen.sent_bytes:
            first = int(seen.range.removeprefix("bytes=").split("-")[0])
            found[seen.path].append((first, first + seen.sent_bytes))
    return found


def overlap(before: Sequence[tuple[int, int]], now: Sequence[tuple[int, int]]) -> int:
    """Bytes of ``now`` that lie in ``before``, headers left out (they are read by every run)."""
    covered: list[tuple[int, int]] = []
    for first, end in sorted(before):
        if covered and first <= covered[-1][1]:
            covered[-1] = (covered[-1][0], max(end, covered[-1][1]))
        else:
            covered.append((first, end))
    return sum(
        max(0, min(end, last) - max(first, begin))
        for first, end in now
        for begin, last in covered
        if end - first > 1 << 17
    )


def downloads(bench: Bench) -> list[str]:
    """A plain GGUF of 2 GB, with connections cut and with the program killed."""
    large = bench.folder / "large.gguf"
    write_sound_gguf(large, LARGE_BYTES)
    expected = hashlib.sha256(large.read_bytes()).hexdigest()
    chance = random.Random(1)
    rows = []
    for what in ("connections cut", "times killed"):
        name = what.split()[0]
        bench.server.add("owner/large", {f"{name}.Q4_0.gguf": large})
        arguments = ("pull", f"owner/large/{name}.Q4_0.gguf")
        bench.server.reset_counts()
        if name == "connections":
            bench.server.cut([chance.randrange(LARGE_BYTES) for _ in range(5)])
            bench.run(*arguments)
            sent = bench.server.sent_bytes
            bench.server.cut([])
        else:
            sent = kill_download(bench, arguments, chance)
        path = bench.folder / "store" / name / f"{name}-Q4_0.gguf"
        same = hashlib.sha256(path.read_bytes()).hexdigest() == expected
        path.unlink()
        rows.append(row(f"a 2 GB file, 5 {what}: the same", str(same), "True"))
        rows.append(row("fetched / its size", f"{sent / LARGE_BYTES:.4f}", "≤ 1.05"))
    return rows


def kill_download(bench: Bench, arguments: Sequence[str | Path], chance: random.Random) -> int:
    kills = sorted(chance.randrange(LARGE_BYTES) for _ in range(5))
    for kill in kills:
        process = bench.start(*arguments)
        while process.poll() is None and bench.server.sent_bytes < kill:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    bench.run(*arguments)
    return bench.server.sent_bytes


def main() -> None:
    """Print the table."""
    if not hasattr(os, "sendfile"):
        print("the server is slow without sendfile; its times say little", file=sys.stderr)
    print("| what | measured | goal |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="fwlocal-hub-") as folder, HubServer() as server:
        bench = Bench(Path(folder), server)
        for form in ("bin", "safetensors"):
            print("\n".join(compare_forms(bench, form)), flush=True)
            print("\n".join(interrupted(bench, form)), flush=True)
        print("\n".join(downloads(bench)), flush=True)


if __name__ == "__main__":
    main()
