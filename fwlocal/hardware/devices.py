"""Which of llama.cpp's devices layers may go on, and in which order.

The rules are llama.cpp's own (``llama_prepare_model_devices`` in its src/llama.cpp), with a wider
eye for one card that two backends see. How fast a device is, nobody tells: its memory stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fwlocal.hardware.huge_pages import huge_pages
from fwlocal.hardware.ram import Memory, memory

WORKERS_BACKEND = "RPC"
METAL_BACKENDS = {"MTL", "Metal"}  # now, and before the autumn of 2025
# One card is taken from the backend named first; all that are not named here come before these.
_LESSER_BACKENDS = ("", "Vulkan", "WebGPU", "OpenCL")


@dataclass(frozen=True)
class Device:
    """A device of one of llama.cpp's backends. ``kind`` is CPU, GPU, IGPU, ACCEL or META;
    ``device_id`` is where the card sits (its PCI address), "" where the backend tells nothing."""

    name: str
    description: str
    backend: str
    kind: str
    free_bytes: int
    total_bytes: int
    device_id: str = ""


@dataclass(frozen=True)
class Machine:
    """What a plan may use. ``gpus`` are in loading order: the workers', then this machine's, the
    fastest last. ``huge_pages`` is the kernel's word on them, as in ``hardware.huge_pages``."""

    ram: Memory
    gpus: tuple[Device, ...]
    huge_pages: str = ""

    def is_unified(self, device: Device) -> bool:
        """Whether the memory of ``device`` is this machine's RAM."""
        return _is_unified(device)

    @property
    def free_bytes(self) -> int:
        """Memory of all kinds that a model can use now."""
        own = (device.free_bytes for device in self.gpus if not _is_unified(device))
        return self.ram.available_bytes + sum(own)


def machine(
    devices: Sequence[Device], workers: Sequence[Device] = (), ram: Memory | None = None
) -> Machine:
    """What layers may go on, of all of llama.cpp's ``devices`` and of the ``workers``' (which may
    be among ``devices`` already); ``ram`` is measured where it is not given.

    Integrated GPUs count only where there is no other in this machine, and only one backend's. A
    device that tells no memory is left out (see ``memoryless``). On unified memory, what is free
    is the backend's limit, and never more than the RAM that is available.
    """
    ram = memory() if ram is None else ram
    usable = [d for d in distinct(devices) if d.kind in {"GPU", "IGPU"} and not _tells_nothing(d)]
    remote = {d.name: d for d in usable if d.backend == WORKERS_BACKEND}
    remote |= {d.name: d for d in workers if not _tells_nothing(d)}
    local = _llama_cpps_choice([d for d in usable if d.backend != WORKERS_BACKEND])
    local = [_within(d, ram) if _is_unified(d) else d for d in local]
    local.reverse()  # of equal cards CUDA's first is the fastest
    local.sort(key=lambda d: (not _is_unified(d), d.total_bytes))
    return Machine(ram, (*remote.values(), *local), huge_pages())


def listing_order(name: str) -> tuple[bool, bool, str, int]:
    """A key that sorts devices' names as people list them: workers', then GPUs by number, then
    the CPU."""
    letters = name.rstrip("0123456789")
    number = int(name[len(letters) :] or 0)
    return name == "CPU", letters != "RPC", letters, number


def memoryless(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The GPUs that ``machine`` leaves out because they tell no memory, free or total."""
    return tuple(d for d in distinct(devices) if d.kind in {"GPU", "IGPU"} and _tells_nothing(d))


def distinct(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Each card once, in the order given: the card that Vulkan or OpenCL sees as well is CUDA's,
    ROCm's or Metal's."""
    return tuple(
        device
        for index, device in enumerate(devices)
        if not any(
            _is_same_card(device, other) and _standing(i, other) < _standing(index, device)
            for i, other in enumerate(devices)
        )
    )


def _standing(index: int, device: Device) -> tuple[bool, int, int]:
    """The least is the one to keep: a device that tells its memory, of the better backend."""
    return _tells_nothing(device), _backend_rank(device), index


def _backend_rank(device: Device) -> int:
    lesser = _LESSER_BACKENDS
    return lesser.index(device.backend) if device.backend in lesser else 0


def _is_same_card(one: Device, other: Device) -> bool:
    """By their places where both tell them, as llama.cpp does, else by what they are called; two
    devices of one backend are two."""
    if one.backend == other.backend or WORKERS_BACKEND in (one.backend, other.backend):
        return False
    if not {one.kind, other.kind} <= {"GPU", "IGPU"}:
        return False
    if one.device_id and other.device_id:
        return one.device_id == other.device_id
    return _model(one) == _model(other)


def _model(device: Device) -> str:
    """The card's name without the driver's in brackets: ``AMD Radeon RX 6600 (RADV NAVI23)``."""
    name = device.description.partition(" (")[0]
    return " ".join(name.casefold().split())


def _llama_cpps_choice(devices: Sequence[Device]) -> list[Device]:
    """The GPUs; if there is none, the integrated ones of a single backend, since several may see
    the same under other names."""
    gpus = [d for d in devices if d.kind == "GPU"]
    if gpus or not devices:
        return gpus
    backend = min(devices, key=_backend_rank).backend
    return [d for d in devices if d.backend == backend]


def _is_unified(device: Device) -> bool:
    return device.backend in METAL_BACKENDS or device.kind == "IGPU"


def _within(device: Device, ram: Memory) -> Device:
    return replace(device, free_bytes=min(device.free_bytes, ram.available_bytes))


def _tells_nothing(device: Device) -> bool:
    return device.free_bytes == 0 and device.total_bytes == 0
