"""Plans against a real GPU: ``python -m tests.gpu.offload [--source DIR | --libraries DIR]``.

Builds llama.cpp's CUDA backend, writes a 70B-shaped Q4_K_M of random weights (41 GB), and prints,
for several budgets of GPU memory, a Markdown table: layers on the GPU, bytes foretold and taken on
each device, prefill and decode speed. What an earlier run built or wrote in ``--work`` is used
again. Without an NVIDIA GPU it says so in one line and leaves with 1.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fwlocal.errors import FwlocalError
from fwlocal.files import sized
from tests.gpu import report
from tests.gpu.backend import ROOT, built_libraries, check_libraries
from tests.gpu.device import GPU, check_device
from tests.gpu.random_model import LEVEL, SEVENTY_B, ensure_model
from tests.gpu.report import Measurement
from tests.tiny_llama import Shape

LIBRARY_PATH = "LLAMA_CPP_LIB_PATH"  # where llama-cpp-python looks for its libraries
SHAPE_OPTIONS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "ffn": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "vocab": "vocab_size",
    "n_ctx": "max_position_embeddings",
}


def budget(text: str) -> int | None:
    """Bytes of so many GiB; None for "all". ValueError for anything else."""
    if text == "all":
        return None
    try:
        size_bytes = int(float(text) * 2**30)
    except (ValueError, OverflowError):
        size_bytes = 0
    if size_bytes <= 0:
        raise ValueError(f"{text!r} is no number of GiB")
    return size_bytes


def budgets(text: str) -> tuple[int | None, ...]:
    """Several of them, with commas between."""
    return tuple(budget(part.strip()) for part in text.split(","))


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m tests.gpu.offload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add("--work", type=Path, default=ROOT / ".tools" / "gpu", help="what is built and written")
    add("--source", type=Path, help="a source tree of llama.cpp (fetched without it)")
    add("--libraries", type=Path, help="libraries that are built already")
    add("--arch", default="native", help="CMake's CUDA_ARCHITECTURES, such as 90")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    add("--model", type=Path, help="where the random model is, or is to be (in --work without it)")
    add("--budgets", type=budgets, default=budgets("16,24,40,all"), help="GiB, or all")
    add("--rounds", type=int, default=3, help="how often each speed is measured")
    for name, field in SHAPE_OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        add(flag, type=int, default=getattr(SEVENTY_B, field), help="of the random model")
    return options


def shape_of(arguments: argparse.Namespace) -> Shape:
    """The random model's shape."""
    return Shape(**{field: getattr(arguments, name) for name, field in SHAPE_OPTIONS.items()})


def model_path(arguments: argparse.Namespace) -> Path:
    """Where it is: models of different shapes lie beside each other."""
    numbers = "-".join(str(getattr(arguments, name)) for name in SHAPE_OPTIONS)
    named: Path | None = arguments.model
    return named or arguments.work / f"random-{numbers}-{LEVEL.name}.gguf"


def measure_command(
    model: Path, budget_bytes: int | None, rounds: int, n_ctx: int
) -> tuple[str, ...]:
    """What measures one budget, in a process of its own: its GPU memory is free when it ends."""
    command = [sys.executable, "-m", "tests.gpu.measure", str(model.absolute())]
    command += ["--rounds", str(rounds), "--n-ctx", str(n_ctx)]
    return (*command, *(["--budget-bytes", str(budget_bytes)] if budget_bytes else []))


def measured(command: Sequence[str], environment: Mapping[str, str]) -> Measurement:
    """What such a process found. Raises FwlocalError when it fails; it says why on stderr."""
    done = subprocess.run(
        list(command), stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, check=False
    )
    if done.returncode:
        raise FwlocalError(f"the measuring process left with {done.returncode}; it says above why")
    return Measurement.from_json(done.stdout.splitlines()[-1])


def child_environment(
    libraries: Path, work: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    """With these libraries, a store of its own, and, unless the user chose, the GPU that
    ``nvidia-smi`` names first."""
    chosen = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    own = {LIBRARY_PATH: str(libraries), "FWLOCAL_HOME": str(work / "home")}
    return {**chosen, **environment, **own}


def caption(gpu: GPU, model: Path, shape: Shape, rounds: int, day: datetime.date) -> str:
    """What the table is about, in one line."""
    memory = "memory not told" if gpu.total_bytes is None else f"{gpu.total_bytes / 2**30:.1f} GiB"
    return (
        f"{gpu.name}, {memory}, {day.isoformat()}: {LEVEL.name} of random weights, "
        f"{sized(model.stat().st_size)}, {shape.num_hidden_layers} layers, context "
        f"{shape.max_position_embeddings}; bytes as predicted / actual; medians of {rounds}"
    )


def tell(line: str) -> None:
    """Progress, for people."""
    print(line, file=sys.stderr, flush=True)


def run(arguments: argparse.Namespace) -> int:
    """All the steps; 1 when a budget could not be measured."""
    gpu = check_device()[0]
    work, shape = arguments.work.absolute(), shape_of(arguments)
    if arguments.libraries is not None:
        libraries = check_libraries(arguments.libraries)
    else:
        libraries = built_libraries(arguments.source, work, arguments.arch, arguments.jobs)
    os.environ[LIBRARY_PATH] = str(libraries)  # for the kernels that quantize, too
    model = ensure_model(model_path(arguments), shape, tell)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    print(f"{caption(gpu, model, shape, arguments.rounds, today)}\n\n{report.heading()}")
    environment, n_failed = child_environment(libraries, work, os.environ), 0
    for size_bytes in arguments.budgets:
        tell(f"measuring with {report.budget_name(size_bytes)}")
        n_ctx = shape.max_position_embeddings
        command = measure_command(model, size_bytes, arguments.rounds, n_ctx)
        try:
            print(*report.rows(size_bytes, measured(command, environment)), sep="\n", flush=True)
        except FwlocalError as error:
            n_failed += 1
            print(report.failed_row(size_bytes, str(error)), flush=True)
    return 1 if n_failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; errors are one line on stderr."""
    try:
        return run(parser().parse_args(arguments))
    except FwlocalError as error:
        tell(f"offload: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
