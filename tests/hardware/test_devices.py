"""Which devices layers go on, in which order, and each card once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.hardware import Device, Memory, machine, memoryless

GIB = 2**30
RAM = Memory(20 * GIB, 32 * GIB)


def gpu(name: str, backend: str = "CUDA", gib: int = 8, **other: Any) -> Device:
    return replace(Device(name, f"card {name}", backend, "GPU", gib * GIB, gib * GIB), **other)


CPU = gpu("CPU", "CPU", 32, kind="CPU")
BLAS = gpu("BLAS", "BLAS", 0, kind="ACCEL")


def chosen(*devices: Device, workers: tuple[Device, ...] = ()) -> list[str]:
    return [device.name for device in machine(devices, workers, RAM).gpus]


def test_layers_go_on_gpus_and_the_fastest_comes_last() -> None:
    assert chosen(gpu("CUDA0", gib=24), gpu("CUDA1", gib=8), BLAS, CPU) == ["CUDA1", "CUDA0"]
    assert chosen(gpu("CUDA0"), gpu("CUDA1")) == ["CUDA1", "CUDA0"]
    assert chosen(BLAS, CPU) == []


def test_workers_come_first() -> None:
    worker = gpu("RPC0", "RPC", 80, description="attic:50052")

    assert chosen(gpu("CUDA0"), CPU, workers=(worker,)) == ["RPC0", "CUDA0"]
    assert chosen(gpu("CUDA0"), worker, CPU, workers=(worker,)) == ["RPC0", "CUDA0"]
    assert chosen(gpu("CUDA0"), worker, CPU) == ["RPC0", "CUDA0"]


def test_two_devices_of_one_worker_are_two() -> None:
    workers = tuple(gpu(f"RPC{i}", "RPC", description="attic:50052") for i in range(2))

    assert chosen(CPU, workers=workers) == ["RPC0", "RPC1"]


def test_an_integrated_gpu_counts_only_where_there_is_no_other() -> None:
    integrated = gpu("Vulkan0", "Vulkan", 16, kind="IGPU")

    assert chosen(integrated, CPU) == ["Vulkan0"]
    assert chosen(integrated, gpu("CUDA0"), CPU) == ["CUDA0"]
    assert chosen(integrated, CPU, workers=(gpu("RPC0", "RPC"),)) == ["RPC0", "Vulkan0"]


def test_integrated_gpus_of_one_backend_only() -> None:
    first, second = (gpu(f"SYCL{i}", "SYCL", kind="IGPU", description=f"Xe {i}") for i in range(2))
    again = gpu("Vulkan0", "Vulkan", kind="IGPU", description="Intel(R) Graphics")

    assert chosen(again, first, second) == ["SYCL1", "SYCL0"]


@pytest.mark.parametrize(
    ("best", "lesser"),
    [
        (gpu("CUDA0", description="NVIDIA RTX 4090"), gpu("Vulkan0", "Vulkan")),
        (gpu("ROCm0", "ROCm", description="AMD Radeon RX 6600"), gpu("Vulkan0", "Vulkan")),
        (gpu("MTL0", "MTL", description="Apple M2"), gpu("Vulkan0", "Vulkan")),
        (gpu("Vulkan0", "Vulkan", description="Arc"), gpu("GPUOpenCL", "OpenCL")),
    ],
)
def test_one_card_that_two_backends_see_counts_once(best: Device, lesser: Device) -> None:
    seen_again = gpu(lesser.name, lesser.backend, description=f"{best.description} (its driver)")

    assert chosen(best, seen_again, CPU) == [best.name]
    assert chosen(seen_again, best, CPU) == [best.name]
    assert len(chosen(best, lesser)) == 2


def test_two_equal_cards_are_two() -> None:
    cuda = [gpu(f"CUDA{i}", description="RTX 3090") for i in range(2)]
    vulkan = [gpu(f"Vulkan{i}", "Vulkan", description="RTX 3090") for i in range(2)]

    assert chosen(*cuda, *vulkan) == ["CUDA1", "CUDA0"]


def test_where_a_card_sits_says_more_than_its_name() -> None:
    cuda = gpu("CUDA0", description="RTX 3090", device_id="0000:01:00.0")
    same = gpu("Vulkan0", "Vulkan", description="Nvidia card", device_id="0000:01:00.0")
    other = gpu("Vulkan1", "Vulkan", description="RTX 3090", device_id="0000:02:00.0")

    assert chosen(cuda, same, other) == ["Vulkan1", "CUDA0"]


def test_a_device_without_memory_is_left_out_and_named() -> None:
    broken, full = gpu("CUDA0", gib=0), gpu("CUDA1", free_bytes=0)

    assert chosen(broken, full, BLAS, CPU) == ["CUDA1"]
    assert memoryless([broken, full, BLAS, CPU]) == (broken,)
    assert chosen(CPU, workers=(gpu("RPC0", "RPC", 0),)) == []


def test_a_card_that_tells_its_memory_to_one_backend_only() -> None:
    cuda = gpu("CUDA0", gib=0, description="RTX 3090")
    vulkan = gpu("Vulkan0", "Vulkan", description="RTX 3090")

    assert chosen(cuda, vulkan) == ["Vulkan0"]
    assert memoryless([cuda, vulkan]) == ()


def test_unified_memory_is_ram() -> None:
    metal = gpu("MTL0", "MTL", 24)
    has = machine([metal, CPU], ram=RAM)
    tight = machine([metal, CPU], ram=Memory(3 * GIB, 32 * GIB))

    assert has.is_unified(has.gpus[0])
    assert has.gpus[0].free_bytes == 20 * GIB
    assert tight.gpus[0].free_bytes == 3 * GIB
    assert tight.gpus[0].total_bytes == 24 * GIB
    assert machine([gpu("MTL0", "MTL", 16)], ram=RAM).gpus[0].free_bytes == 16 * GIB


def test_a_cards_own_memory_is_not_ram() -> None:
    has = machine([gpu("CUDA0", gib=80)], ram=RAM)

    assert not has.is_unified(has.gpus[0])
    assert has.gpus[0].free_bytes == 80 * GIB


def devices() -> st.SearchStrategy[Device]:
    backends = st.sampled_from(["CUDA", "Vulkan", "OpenCL", "MTL", "RPC", "CPU"])
    kinds = st.sampled_from(["CPU", "GPU", "IGPU", "ACCEL"])
    sizes, cards = st.integers(0, 3), st.sampled_from(["a", "b", "a (driver)"])
    return st.builds(
        lambda backend, kind, gib, card: gpu("", backend, gib, kind=kind, description=card),
        *(backends, kinds, sizes, cards),
    )


@given(st.lists(devices(), max_size=8))
def test_any_machine(found: list[Device]) -> None:
    named = [replace(d, name=f"{d.backend}{index}") for index, d in enumerate(found)]
    gpus = machine(named, ram=RAM).gpus
    local = [device for device in gpus if device.backend != "RPC"]

    assert len({device.name for device in gpus}) == len(gpus)
    assert {device.name for device in gpus} <= {device.name for device in named}
    assert all(device.kind in {"GPU", "IGPU"} and device.total_bytes for device in gpus)
    assert len({device.kind for device in local}) <= 1
    assert list(gpus[len(gpus) - len(local) :]) == local, "a worker after a local device"
    usable = [d for d in named if d.kind in {"GPU", "IGPU"} and d.total_bytes]
    assert bool(gpus) == bool(usable)
