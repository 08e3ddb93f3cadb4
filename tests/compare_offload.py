"""`make compare-offload`: how many layers fwlocal and llama.cpp's own `llama-fit-params` put on a
GPU, for the same files, the same free memory and the same margins.

The GPU is a worker on loopback; the files are sparse, with the real shapes. Both only plan.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from pathlib import Path

from fwlocal.errors import DoesNotFit
from fwlocal.loader.planning import look_around, settle
from fwlocal.offload import Request
from fwlocal.whole import read_whole
from tests.offload.models import MIB, SHAPES
from tests.sparse_gguf import write_sparse
from tests.workers.loopback import LoopbackWorker

FREE_MIB = (2000, 4000, 6000, 8000, 12000)
LEVEL = "Q4_K_M"


def fitted(binary: Path, model: Path, address: str, margin_mib: int) -> tuple[int, float]:
    """Layers by llama-fit-params, -1 being all, and seconds."""
    command = [str(binary / "llama-fit-params"), "-m", str(model), "--rpc", address]
    command += ["-c", "4096", "-b", "512", "-ub", "512", "-fitt", str(margin_mib)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"-ngl (-?\d+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return int(found[1]), time.perf_counter() - started


def planned(model: Path, address: str, margin_mib: int) -> tuple[int, int, float]:
    """Layers by fwlocal with a cache of f16 and with its own choice, and seconds for the latter."""
    header = read_whole(model)
    counts = []
    for kv_type in ("f16", "auto"):
        started = time.perf_counter()
        request = Request(4096, kv_type=kv_type, margin_bytes=margin_mib * MIB)
        counts.append(settle(model, header, look_around([address]), request).plan.n_gpu_layers)
    return counts[0], counts[1], time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin", type=Path, help="folder of llama.cpp's tools")
    binary = parser.parse_args().bin
    print("| model | free MiB | layers, f16 (s) | layers, auto | llama-fit-params' (s) |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, LoopbackWorker() as worker:
        for size in ("7B", "13B"):
            shape = SHAPES[size]
            model = write_sparse(Path(folder) / f"{size}.gguf", shape, LEVEL)
            for free_mib in FREE_MIB:
                (gpu,) = look_around([worker.address]).machine.gpus
                margin = gpu.free_bytes // MIB - free_mib
                try:
                    ours, auto, seconds = planned(model, worker.address, margin)
                except DoesNotFit as error:
                    print(f"| {size} | {free_mib} | {error} | | |")
                    continue
                theirs, their_s = fitted(binary, model, worker.address, margin)
                all_of = shape.n_layer + 1
                fit = all_of if theirs < 0 else theirs
                print(
                    f"| {size} {LEVEL} | {free_mib} | {ours} ({seconds:.2f}) | {auto} | "
                    f"{fit} ({their_s:.2f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
