"""The machine that is planned for: this one, or another by its sizes; and how fast its memory is.

Pure: what this machine has is told. What is assumed is said in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fwlocal.errors import UsageError
from fwlocal.forecast.cards import GB, Speed, of_name, of_size
from fwlocal.forecast.estimate import HOST
from fwlocal.hardware import Device, Machine, Memory, machine
from fwlocal.sizes import gib

IMAGINED = "imagined"  # the backend of a GPU that is not here
ASSUMED_RAM = Speed(60.0 * GB, "assumed: two channels of DDR5")
MOST_GB_PER_S = 1e6


@dataclass(frozen=True)
class Setup:
    """A machine, and the speed of each of its devices and of its RAM (``forecast.HOST``)."""

    machine: Machine
    speeds: Mapping[str, Speed]

    def in_words(self) -> Iterator[str]:
        """A line for each device, the RAM last."""
        for gpu in self.machine.gpus:
            free = "" if gpu.free_bytes == gpu.total_bytes else f"{gib(gpu.free_bytes)} free of "
            what = "" if gpu.backend == IMAGINED else f"{gpu.description}, "
            yield f"{gpu.name}: {what}{free}{gib(gpu.total_bytes)}, {_speed(self.speeds[gpu.name])}"
        ram = self.machine.ram
        free = "" if ram.available_bytes == ram.total_bytes else f"{gib(ram.available_bytes)} of "
        yield f"RAM: {free}{gib(ram.total_bytes)} free, {_speed(self.speeds[HOST])}"


def imagined_gpus(sizes: Sequence[int]) -> tuple[Device, ...]:
    """GPUs of these sizes in bytes, all of it free; 0 is none."""
    return tuple(
        Device(f"GPU{index}", "", IMAGINED, "GPU", size, size)
        for index, size in enumerate(sizes)
        if size
    )


def setup(
    gpus: Sequence[Device],
    workers: Sequence[Device],
    ram: Memory,
    *,
    ram_speed: Speed,
    gpu_bandwidths: Sequence[float] = (),
) -> Setup:
    """The machine with these devices. ``gpu_bandwidths``, in bytes per second, are those of the
    ``workers`` and then of the GPUs, in their order, or one for all.

    Raises UsageError for another number of them.
    """
    planned = machine(gpus, workers, ram)
    names = {device.name for device in planned.gpus}
    order = [device.name for device in (*workers, *gpus) if device.name in names]
    given = _given(order, gpu_bandwidths)
    speeds = {
        gpu.name: given.get(gpu.name) or _speed_of(gpu, planned, ram_speed) for gpu in planned.gpus
    }
    return Setup(planned, {**speeds, HOST: ram_speed})


def _given(order: Sequence[str], bandwidths: Sequence[float]) -> dict[str, Speed]:
    """The speeds that were named, by device."""
    if not bandwidths:
        return {}
    each = list(bandwidths) * len(order) if len(bandwidths) == 1 else bandwidths
    if len(each) != len(order):
        named = ", ".join(order) or "none"
        raise UsageError(
            f"--gpu-bandwidth names {len(bandwidths)} bandwidths, and the GPUs are {named}; give "
            "one for each, or one for all"
        )
    return {name: Speed(value, "as given") for name, value in zip(order, each, strict=True)}


def _speed_of(gpu: Device, planned: Machine, ram_speed: Speed) -> Speed:
    """By its name (a worker's is an address), else that of the memory it shares, else by its
    size."""
    known = None if gpu.backend == "RPC" else of_name(gpu.description)
    if known is not None:
        return known
    return ram_speed if planned.is_unified(gpu) else of_size(gpu.total_bytes)


def _speed(speed: Speed) -> str:
    return f"{speed.bytes_per_s / GB:.0f} GB/s ({speed.known_by})"


def parse_bandwidths(text: str | None) -> tuple[float, ...]:
    """``1008,936`` in GB/s, as bytes per second; () for None. Raises UsageError."""
    return () if text is None else tuple(map(_bandwidth, text.split(",")))


def _bandwidth(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MOST_GB_PER_S:
        raise UsageError(
            f"--gpu-bandwidth {text.strip()!r}: is no bandwidth; write a number of GB/s, as in 1008"
        )
    return value * GB
