"""Which NVIDIA GPUs this machine has, as ``nvidia-smi`` tells; llama.cpp is not asked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from fwlocal.errors import FwlocalError

QUERY = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader")
TIMEOUT_S = 60


@dataclass(frozen=True)
class GPU:
    """One of them; None where the driver does not tell the memory, as of one that shares RAM."""

    name: str
    total_bytes: int | None
    free_bytes: int | None


def parse_gpus(text: str) -> tuple[GPU, ...]:
    """The GPUs of ``nvidia-smi``'s answer to QUERY: a line for each, ``NAME, N MiB, N MiB``.

    Other lines, such as "No devices were found", are passed over.
    """
    rows = (line.rsplit(",", 2) for line in text.splitlines())
    return tuple(GPU(row[0].strip(), *map(_bytes, row[1:])) for row in rows if len(row) == 3)


def _bytes(cell: str) -> int | None:
    number, _, unit = cell.strip().partition(" ")
    return int(number) * 2**20 if unit == "MiB" and number.isdecimal() else None


def ask_nvidia_smi() -> str:
    """Its answer to QUERY. Raises FwlocalError when there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise FwlocalError(
            "nvidia-smi is missing, so there is no NVIDIA driver here; run this on a machine with "
            "an NVIDIA GPU"
        )
    try:
        done = subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FwlocalError(f"{program}: does not answer ({error}); mend the driver") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it gave no reason"]
        raise FwlocalError(f"{program}: failed ({said[-1]}); mend the driver")
    return done.stdout


def check_device(ask: Callable[[], str] = ask_nvidia_smi) -> tuple[GPU, ...]:
    """The GPUs, one at least. Raises FwlocalError that says what is missing."""
    gpus = parse_gpus(ask())
    if not gpus:
        raise FwlocalError("nvidia-smi sees no GPU; run this on a machine with an NVIDIA GPU")
    return gpus
