"""The machine that is planned for: this one, or another by its sizes; and how fast its memory is.

Pure: what this machine has is told. What is assumed is said in words, and what nobody knows, the
speed of a worker, is not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fwlocal.errors import UsageError
from fwlocal.forecast.cards import GB, Speed, of_name, of_size, of_unified
from fwlocal.forecast.estimate import HOST
from fwlocal.hardware import Device, Machine, Memory, machine
from fwlocal.sizes import GIB, gib

IMAGINED = "imagined"  # the backend of a GPU that is not here
WORKERS = "RPC"
MAC = "Apple Silicon"
ASSUMED_RAM = Speed(60.0 * GB, "assumed: two channels of DDR5")
MOST_GB_PER_S = 1e6
UNKNOWN_WORKER = "the speed of a worker is not known; --gpu-bandwidth tells it"
NETWORK = "what crosses the network to a worker is not counted"


@dataclass(frozen=True)
class Setup:
    """A machine, and the speed of each of its devices, where it is known, and of its RAM
    (``forecast.HOST``)."""

    machine: Machine
    speeds: Mapping[str, Speed]

    @property
    def gpus(self) -> tuple[Device, ...]:
        """Its GPUs as they are shown: by their names."""
        return tuple(sorted(self.machine.gpus, key=lambda gpu: by_name(gpu.name)))

    def in_words(self) -> Iterator[str]:
        """A line for each device, the RAM last, and what is to be known of workers."""
        for gpu in self.gpus:
            yield f"{gpu.name}: {self._memory(gpu)}, {_told(self.speeds.get(gpu.name))}"
        ram = self.machine.ram
        free = "" if ram.available_bytes == ram.total_bytes else f"{gib(ram.available_bytes)} of "
        yield f"RAM: {free}{gib(ram.total_bytes)} free, {_told(self.speeds[HOST])}"
        workers = [gpu.name for gpu in self.gpus if gpu.backend == WORKERS]
        if workers:
            yield NETWORK if self.speeds.keys() >= {*workers} else UNKNOWN_WORKER

    def _memory(self, gpu: Device) -> str:
        what = "" if gpu.backend == IMAGINED else f"{gpu.description}, "
        free = "" if gpu.free_bytes == gpu.total_bytes else f"{gib(gpu.free_bytes)} free of "
        shared = " of the RAM" if self.machine.is_unified(gpu) else ""
        return f"{what}{free}{gib(gpu.total_bytes)}{shared}"


def by_name(device: str) -> tuple[bool, str, int]:
    """Sorts devices as people count, GPU2 before GPU10, the CPU last."""
    kind = device.rstrip("0123456789")
    return device == HOST, kind, int(device[len(kind) :] or 0)


def imagined_gpus(sizes: Sequence[int]) -> tuple[Device, ...]:
    """GPUs of these sizes in bytes, all of it free; 0 is none."""
    return tuple(
        Device(f"GPU{index}", "", IMAGINED, "GPU", size, size)
        for index, size in enumerate(sizes)
        if size
    )


def working_set_bytes(ram_bytes: int) -> int:
    """How much of a Mac's memory its GPU may use, unless iogpu.wired_limit_mb says otherwise.

    Metal's recommendedMaxWorkingSetSize, which llama.cpp takes for the device's memory. Apple does
    not say how it is found; llama.cpp's logs show 10922 MiB of 16 GiB and 21845 of 32, two thirds,
    and 49152 of 64, three quarters.
    """
    return ram_bytes * 3 // 4 if ram_bytes > 36 * GIB else ram_bytes * 2 // 3


def mac(
    ram_bytes: int, workers: Sequence[Device] = (), gpu_bandwidths: Sequence[float] = ()
) -> Setup:
    """A Mac with so much memory, all of it free: one pool, as fast for the GPU as for the CPU.

    Raises UsageError as ``setup``.
    """
    limit = working_set_bytes(ram_bytes)
    gpu = Device("MTL0", MAC, "MTL", "GPU", limit, limit)
    memory = Memory(ram_bytes, ram_bytes)
    found = setup(
        (gpu,), workers, memory, ram_speed=of_unified(ram_bytes), gpu_bandwidths=gpu_bandwidths
    )
    return replace(found, speeds={**found.speeds, HOST: found.speeds[gpu.name]})


def setup(
    gpus: Sequence[Device],
    workers: Sequence[Device],
    ram: Memory,
    *,
    ram_speed: Speed,
    gpu_bandwidths: Sequence[float] = (),
) -> Setup:
    """The machine with these devices. ``gpu_bandwidths``, in bytes per second, are those of the
    GPUs and the workers in the order of ``by_name``, or one for all.

    Raises UsageError for another number of them.
    """
    planned = machine(gpus, workers, ram)
    names = sorted((gpu.name for gpu in planned.gpus), key=by_name)
    given = _given(names, gpu_bandwidths)
    known = {gpu.name: _speed_of(gpu, planned, ram_speed) for gpu in planned.gpus}
    speeds = {name: speed for name, speed in {**known, **given}.items() if speed is not None}
    return Setup(planned, {**speeds, HOST: ram_speed})


def _given(names: Sequence[str], bandwidths: Sequence[float]) -> dict[str, Speed]:
    """The speeds that were named, by device."""
    if not bandwidths or not names:
        return {}
    each = list(bandwidths) * len(names) if len(bandwidths) == 1 else bandwidths
    if len(each) != len(names):
        raise UsageError(
            f"--gpu-bandwidth names {len(bandwidths)} bandwidths, and the GPUs are "
            f"{', '.join(names)}; give one for each, or one for all"
        )
    return {name: Speed(value, "as given") for name, value in zip(names, each, strict=True)}


def _speed_of(gpu: Device, planned: Machine, ram_speed: Speed) -> Speed | None:
    """By its name, else that of the memory it shares, else by its size; a worker's, of which only
    the address is known, is not."""
    if gpu.backend == WORKERS:
        return None
    known = of_name(gpu.description)
    if known is not None:
        return known
    return ram_speed if planned.is_unified(gpu) else of_size(gpu.total_bytes)


def _told(speed: Speed | None) -> str:
    if speed is None:
        return "speed not known"
    return f"{speed.bytes_per_s / GB:.0f} GB/s ({speed.known_by})"


def parse_bandwidths(text: str | None) -> tuple[float, ...]:
    """``1008,936`` in GB/s, as bytes per second; () for None. Raises UsageError."""
    if text is None:
        return ()
    values = tuple(map(_number, text.split(",")))
    if not all(0 < value <= MOST_GB_PER_S for value in values):
        raise UsageError(f"--gpu-bandwidth {text!r}: is not a bandwidth in GB/s, as in 1008")
    return tuple(value * GB for value in values)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
