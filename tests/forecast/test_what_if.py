"""The machine that is planned for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import UsageError
from fwlocal.forecast.cards import GB, Speed
from fwlocal.forecast.estimate import HOST
from fwlocal.forecast.what_if import (
    ASSUMED_RAM,
    NETWORK,
    UNKNOWN_WORKER,
    Setup,
    by_name,
    imagined_gpus,
    mac,
    parse_bandwidths,
    setup,
    working_set_bytes,
)
from fwlocal.hardware import Device, Memory
from fwlocal.sizes import GIB

RAM = Memory(50 * GIB, 64 * GIB)
MEASURED = Speed(20 * GB, "measured")
CARD = Device("CUDA0", "NVIDIA GeForce RTX 3090", "CUDA", "GPU", 23 * GIB, 24 * GIB)
APPLE = Device("MTL0", "Apple M9", "MTL", "GPU", 40 * GIB, 48 * GIB)
WORKER = Device("RPC0", "a100:50052", "RPC", "GPU", 8 * GIB, 8 * GIB)


def planned(
    *gpus: Device, workers: tuple[Device, ...] = (), given: tuple[float, ...] = ()
) -> Setup:
    return setup(gpus, workers, RAM, ram_speed=MEASURED, gpu_bandwidths=given)


def test_every_device_has_a_speed_and_says_how_it_is_known() -> None:
    found = planned(CARD, workers=(WORKER,))
    assert [gpu.name for gpu in found.machine.gpus] == ["RPC0", "CUDA0"]
    assert found.speeds["CUDA0"].bytes_per_s == 936 * GB
    assert list(found.in_words()) == [
        "CUDA0: NVIDIA GeForce RTX 3090, 23.0 GiB free of 24.0 GiB, 936 GB/s "
        "(data sheet of RTX 3090)",
        "RPC0: a100:50052, 8.0 GiB, speed not known",
        "RAM: 50.0 GiB of 64.0 GiB free, 20 GB/s (measured)",
        UNKNOWN_WORKER,
    ]


def test_nobody_guesses_how_fast_a_worker_is() -> None:
    named = replace(WORKER, description="rtx-4090:50052")
    assert planned(workers=(named,)).speeds == {HOST: MEASURED}
    told = planned(workers=(WORKER,), given=(3e9,))
    assert told.speeds["RPC0"] == Speed(3e9, "as given")
    assert [*told.in_words()][-1] == NETWORK
    assert NETWORK not in planned(CARD).in_words()


@pytest.mark.parametrize(("ram", "gpu"), [(16, 10.67), (32, 21.33), (36, 24), (64, 48), (192, 144)])
def test_metal_may_use_a_part_of_a_macs_memory(ram: int, gpu: float) -> None:
    assert working_set_bytes(ram * GIB) == pytest.approx(gpu * GIB, rel=1e-3)


def test_a_mac_is_one_pool_of_one_speed() -> None:
    found = mac(64 * GIB)
    (gpu,) = found.machine.gpus
    assert found.machine.is_unified(gpu)
    assert found.machine.free_bytes == 64 * GIB
    assert {speed.bytes_per_s for speed in found.speeds.values()} == {273 * GB}
    assert {speed.bytes_per_s for speed in mac(64 * GIB, (), (5e9,)).speeds.values()} == {5e9}
    assert mac(64 * GIB, (WORKER,)).speeds.keys() == {"MTL0", HOST}


def test_devices_are_sorted_as_people_count() -> None:
    names = ["CPU", "RPC0", "GPU10", "GPU2", "GPU0", "Vulkan1"]
    assert sorted(names, key=by_name) == ["GPU0", "GPU2", "GPU10", "RPC0", "Vulkan1", "CPU"]


def test_memory_that_is_the_ram_is_as_fast_as_the_ram() -> None:
    assert planned(APPLE).speeds == {"MTL0": MEASURED, HOST: MEASURED}


def test_another_machine_by_its_sizes() -> None:
    ram = Memory(64 * GIB, 64 * GIB)
    cards = imagined_gpus((24 * GIB, 0, 12 * GIB))
    found = setup(cards, (), ram, ram_speed=ASSUMED_RAM)
    assert list(found.in_words()) == [
        "GPU0: 24.0 GiB, 1008 GB/s (taken for an RTX 4090)",
        "GPU2: 12.0 GiB, 504 GB/s (taken for an RTX 4070)",
        "RAM: 64.0 GiB free, 60 GB/s (assumed: two channels of DDR5)",
    ]
    assert imagined_gpus((0,)) == ()


def test_bandwidths_that_are_named_count() -> None:
    cards = imagined_gpus((24 * GIB, 12 * GIB))
    found = planned(*cards, workers=(WORKER,), given=(1.0, 2.0, 3.0))
    told = {name: speed.bytes_per_s for name, speed in found.speeds.items()}
    assert told == {"GPU0": 1.0, "GPU1": 2.0, "RPC0": 3.0, HOST: 20 * GB}
    assert {s.bytes_per_s for s in planned(*cards, given=(7.0,)).speeds.values()} == {7.0, 20 * GB}
    with pytest.raises(UsageError, match="names 3 bandwidths, and the GPUs are GPU0, GPU1; give"):
        planned(*cards, given=(1.0, 2.0, 3.0))
    assert planned(given=(1.0, 2.0)).speeds == {HOST: MEASURED}


def test_bandwidths_as_people_write_them() -> None:
    assert parse_bandwidths(None) == ()
    assert parse_bandwidths("1008, 936.5") == (1008e9, 936.5e9)


@given(st.sampled_from(["", "x", "0", "-1", "nan", "inf", "1e7", "1,", "1008G"]))
def test_what_is_no_bandwidth_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a bandwidth in GB/s, as in 1008") as caught:
        parse_bandwidths(text)
    assert repr(text) in str(caught.value)
