"""A 70B model's speed on one GPU: ``python -m tests.gpu.speed [--source DIR | --libraries DIR]``.

Builds llama.cpp's CUDA backend, writes a 70B-shaped and a 7B-shaped Q4_K_M of random weights (41
and 4 GB), and prints two Markdown tables with the device's name: (1) prefill and decode without a
draft, beside what the memory's bandwidth allows; (2) decode with the small one drafting for the
large one at forced acceptances, beside what acceptance and cost predict.

Forced: random models never agree, so a seeded coin decides for every token whether the answer goes
on as drafted. All the rest is real: the draft drafts, the model evaluates all rows, the sampler
draws, and what was not accepted is cut from both KV caches. What an earlier run, or that of
``tests.gpu.offload``, built or wrote in ``--work`` is used again. Without an NVIDIA GPU it says so
in one line and leaves with 1.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.files import sized
from fwlocal.forecast.cards import GB, Speed, of_name
from fwlocal.sizes import gib
from tests.gpu.backend import ROOT, built_libraries, check_libraries
from tests.gpu.device import GPU, check_device
from tests.gpu.offload import LIBRARY_PATH, SHAPE_OPTIONS, child_environment
from tests.gpu.random_model import LEVEL, SEVEN_B, SEVENTY_B, ensure_model, plan_tensors
from tests.gpu.speed_report import Speeds, forced_table, plain_table
from tests.tiny_llama import Shape

N_PREFILL = 512  # tokens, as llama-bench's pp512
ROOM_BYTES = 2 * 2**30  # of GPU memory, for what both need beside their weights
# Tokens that fill one of the numbers of rows that fwlocal evaluates at once on a GPU.
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 15)
INPUT_TABLE = "token_embd.weight"  # of which a token reads one row


def acceptances(text: str) -> tuple[float, ...]:
    """Probabilities, with commas between. ValueError for anything else."""
    found = tuple(float(part) for part in text.split(","))
    if not all(0 <= chance <= 1 for chance in found):
        raise ValueError(f"{text!r} are no probabilities")
    return found


def lengths(text: str) -> tuple[int, ...]:
    """Draft lengths, with commas between. ValueError for others than LENGTHS."""
    found = tuple(int(part) for part in text.split(","))
    if not set(found) <= set(LENGTHS):
        raise ValueError(f"{text!r} are not all of {LENGTHS}")
    return found


def more_than_none(text: str) -> int:
    """A count. ValueError for none."""
    if (number := int(text)) < 1:
        raise ValueError(f"{text!r} is less than 1")
    return number


def gb_per_s(text: str) -> Speed:
    """A bandwidth as it is given. ValueError for anything else."""
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError(f"{text!r} is no bandwidth")
    return Speed(number * GB, "as given")


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m tests.gpu.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, n_layers = options.add_argument, "num_hidden_layers"
    add("--work", type=Path, default=ROOT / ".tools" / "gpu", help="what is built and written")
    add("--source", type=Path, help="a source tree of llama.cpp (fetched without it)")
    add("--libraries", type=Path, help="libraries that are built already")
    add("--arch", default="native", help="CMake's CUDA_ARCHITECTURES, such as 90")
    add("--jobs", type=more_than_none, default=os.cpu_count() or 1, help="compilers at a time")
    add("--layers", type=more_than_none, default=getattr(SEVENTY_B, n_layers), help="of the large")
    add("--draft-layers", type=more_than_none, default=getattr(SEVEN_B, n_layers))
    add("--bandwidth", type=gb_per_s, metavar="GB/S", help="of the GPU (by its data sheet without)")
    add("--rounds", type=more_than_none, default=5)
    add("--tokens", type=more_than_none, default=256, help="of an answer")
    add("--acceptances", type=acceptances, default=acceptances("0.4,0.6,0.8"))
    add("--lengths", type=lengths, default=lengths("3,4,7"), help="tokens drafted at a time")
    return options


def shapes_of(arguments: argparse.Namespace) -> tuple[Shape, Shape]:
    """The model's and the draft's."""
    return (
        replace(SEVENTY_B, num_hidden_layers=arguments.layers),
        replace(SEVEN_B, num_hidden_layers=arguments.draft_layers),
    )


def model_path(work: Path, shape: Shape) -> Path:
    """Where ``tests.gpu.offload`` has a model of that shape, too."""
    numbers = "-".join(str(getattr(shape, field)) for field in SHAPE_OPTIONS.values())
    return work / f"random-{numbers}-{LEVEL.name}.gguf"


def weights_bytes(shape: Shape) -> int:
    """Of a model of that shape."""
    return sum(tensor.size_bytes for tensor in plan_tensors(shape))


def read_bytes(shape: Shape) -> int:
    """Bytes of weights that are read for a token: all but the table that it is looked up in."""
    tensors = plan_tensors(shape)
    return sum(tensor.size_bytes for tensor in tensors if tensor.name != INPUT_TABLE)


def chosen(gpus: Sequence[GPU], visible: str | None) -> GPU:
    """The GPU that CUDA_VISIBLE_DEVICES names first, which llama.cpp will use, or without it the
    first of all. Raises FwlocalError where it names none by a number."""
    number = "0" if visible is None else visible.split(",")[0].strip()
    if not number.isdecimal() or int(number) >= len(gpus):
        raise FwlocalError(
            f"CUDA_VISIBLE_DEVICES is {visible!r}; name a GPU by its number, 0 to {len(gpus) - 1}"
        )
    return gpus[int(number)]


def check_memory(gpu: GPU, shapes: Sequence[Shape]) -> None:
    """Raise DoesNotFit where the GPU has too little free memory for models of these shapes; where
    it is not told, llama.cpp will find out."""
    need = sum(map(weights_bytes, shapes)) + ROOM_BYTES
    if gpu.free_bytes is not None and gpu.free_bytes < need:
        raise DoesNotFit(
            f"{gpu.name}: both models need {gib(need)} and {gib(gpu.free_bytes)} are free; end "
            "what else runs there, or take fewer --layers"
        )


def caption(gpu: GPU, shapes: Sequence[Shape], found: argparse.Namespace, day: str) -> str:
    """What the tables are about, in one line."""
    memory = "memory not told" if gpu.total_bytes is None else gib(gpu.total_bytes)
    of_each = [
        f"{sized(weights_bytes(shape))}, {shape.num_hidden_layers} layers" for shape in shapes
    ]
    speed = bandwidth(gpu, found)
    per_s = "bandwidth not known: name --bandwidth"
    if speed is not None:
        per_s = f"{speed.bytes_per_s / GB:.0f} GB/s ({speed.known_by})"
    return (
        f"{gpu.name}, {memory}, {per_s}, {day}: {LEVEL.name} of random weights ({of_each[0]}), "
        f"draft ({of_each[1]}), all layers on the GPU; answers of {found.tokens} tokens behind "
        f"{N_PREFILL}; medians and spread of {found.rounds} rounds"
    )


def bandwidth(gpu: GPU, found: argparse.Namespace) -> Speed | None:
    """As given, else by the GPU's name; None where nothing is known."""
    given: Speed | None = found.bandwidth
    return given or of_name(gpu.name)


def limit_tps(shape: Shape, speed: Speed | None) -> float | None:
    """Tokens per second that no decoding without drafts beats; None if that is not known."""
    return speed.bytes_per_s / read_bytes(shape) if speed is not None else None


def measure_command(model: Path, draft: Path, found: argparse.Namespace) -> tuple[str, ...]:
    """What measures, in a process of its own, which begins with the libraries that it is to use
    and may be ended by them."""
    return (
        *(sys.executable, "-m", "tests.gpu.measure_speed"),
        *(str(model.absolute()), str(draft.absolute())),
        *("--acceptances", *map(str, found.acceptances)),
        *("--lengths", *map(str, found.lengths)),
        *("--rounds", str(found.rounds)),
        *("--prefill", str(N_PREFILL)),
        *("--tokens", str(found.tokens)),
    )


def measured(command: Sequence[str], environment: Mapping[str, str]) -> Speeds:
    """What that process found. Raises FwlocalError when it fails; it says why on stderr."""
    done = subprocess.run(
        list(command), stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, check=False
    )
    if done.returncode:
        raise FwlocalError(f"the measuring process left with {done.returncode}; it says above why")
    return Speeds.from_json(done.stdout.splitlines()[-1])


def tell(line: str) -> None:
    """Progress, for people."""
    print(line, file=sys.stderr, flush=True)


def run(found: argparse.Namespace) -> int:
    """All the steps."""
    gpu = chosen(check_device(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    work, shapes = found.work.absolute(), shapes_of(found)
    check_memory(gpu, shapes)
    if found.libraries is not None:
        libraries = check_libraries(found.libraries)
    else:
        libraries = built_libraries(found.source, work, found.arch, found.jobs)
    os.environ[LIBRARY_PATH] = str(libraries)  # for the kernels that quantize, too
    model, draft = (ensure_model(model_path(work, shape), shape, tell) for shape in shapes)
    environment = child_environment(libraries, work, os.environ)
    speeds = measured(measure_command(model, draft, found), environment)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    print(caption(gpu, shapes, found, today), end="\n\n")
    limit = limit_tps(shapes[0], bandwidth(gpu, found))
    print(*plain_table(speeds, N_PREFILL, limit), sep="\n", end="\n\n")
    print("With the draft, whose acceptance is forced by a coin for every token:", end="\n\n")
    print(*forced_table(speeds.forced), sep="\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; errors are one line on stderr."""
    try:
        return run(parser().parse_args(arguments))
    except FwlocalError as error:
        tell(f"speed: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
