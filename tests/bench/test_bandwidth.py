"""The share of the memory's bandwidth, held against the forecast's count of bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fwlocal.bench.bandwidth import bandwidth_share, bytes_read
from fwlocal.bench.measured import Round
from fwlocal.bench.result import DeviceBytes, Machine, Speed, SpeedTest
from fwlocal.forecast import estimate
from fwlocal.offload import Footprint, OffloadPlan, Request, make_plan
from tests.offload.models import SHAPES, card, header_of, machine, model

N_CTX = 4096
HALF_WAY = SpeedTest(0, 2, N_CTX // 2 - 1)
CPU_ALONE = Machine("a CPU", 8, 2**36, bandwidth_bytes_per_s=50e9)


def planned(footprint: Footprint, *gib: float) -> OffloadPlan:
    cards = [card(f"CUDA{index}", size) for index, size in enumerate(gib)]
    return make_plan(footprint, machine(*cards), Request(N_CTX, "f16"))


def measured(plan: OffloadPlan) -> Round:
    """A round that took what was planned."""
    devices = [
        DeviceBytes(share.device, share.weights_bytes, share.kv_bytes, share.compute_bytes)
        for share in plan.shares
    ]
    speeds = ((SpeedTest(512, 0, N_CTX - 512), 1.0), (HALF_WAY, 1.0))
    return Round(speeds, 1.0, None, None, plan.n_gpu_layers, plan.n_layers, tuple(devices))


@pytest.mark.parametrize("gib", [(), (3,), (24,), (3, 2)], ids=str)
def test_the_bytes_are_the_forecasts(gib: tuple[float, ...]) -> None:
    plan = planned(model("7B"), *gib)

    found = bytes_read(model("7B"), measured(plan), HALF_WAY)

    expected = {d: n for d, n in estimate.bytes_read(model("7B"), plan).items() if n}
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_table_that_is_the_output_too_is_read_once() -> None:
    plain = model("7B")
    tied = replace(plain, is_tied=True, output_bytes=plain.input_bytes)
    plan = planned(tied)

    found = bytes_read(tied, measured(plan), HALF_WAY)

    assert found == pytest.approx(estimate.bytes_read(tied, plan))


def test_of_experts_those_that_are_used() -> None:
    plain = model("7B")
    layers = [replace(layer, expert_bytes=layer.weights_bytes // 2) for layer in plain.layers]
    mixture = replace(plain, layers=tuple(layers), n_expert=8, n_expert_used=2)
    plan = planned(mixture)

    found = bytes_read(mixture, measured(plan), HALF_WAY)

    assert found == pytest.approx(estimate.bytes_read(mixture, plan))
    assert found["CPU"] < bytes_read(plain, measured(plan), HALF_WAY)["CPU"]


def test_an_empty_cache_is_not_read() -> None:
    one = measured(planned(model("7B")))
    shallow = bytes_read(model("7B"), one, SpeedTest(0, 2))["CPU"]
    deep = bytes_read(model("7B"), one, SpeedTest(0, 2, 1000))["CPU"]

    assert deep - shallow == pytest.approx(one.devices[0].kv * 1000 / N_CTX)


def test_the_share_of_the_limit() -> None:
    header = header_of(SHAPES["7B"], "Q4_K_M")
    one = measured(planned(model("7B")))
    limit = 50e9 / bytes_read(model("7B"), one, HALF_WAY)["CPU"]

    share = bandwidth_share(header, one, Speed(HALF_WAY, (limit / 4, limit / 2, limit)), CPU_ALONE)

    assert share == pytest.approx(0.5)


def test_devices_take_turns() -> None:
    header = header_of(SHAPES["7B"], "Q4_K_M")
    one = measured(planned(model("7B"), 3))
    where = replace(CPU_ALONE, gpus=("NVIDIA GeForce RTX 4090",))
    read = bytes_read(model("7B"), one, HALF_WAY)
    seconds = read["CPU"] / 50e9 + read["CUDA0"] / 1008e9

    share = bandwidth_share(header, one, Speed(HALF_WAY, (1 / seconds,)), where)

    assert share == pytest.approx(1)


@pytest.mark.parametrize(
    "gpus",
    [("a card of tomorrow",), ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060"), ()],
    ids=["unknown", "which of them", "none"],
)
def test_a_gpu_whose_bandwidth_is_not_known(gpus: tuple[str, ...]) -> None:
    header = header_of(SHAPES["7B"], "Q4_K_M")
    one = measured(planned(model("7B"), 24))
    decode = Speed(HALF_WAY, (100.0,))

    assert bandwidth_share(header, one, decode, replace(CPU_ALONE, gpus=gpus)) is None
    alone = measured(planned(model("7B")))
    assert bandwidth_share(header, alone, decode, replace(CPU_ALONE, gpus=gpus)) is not None


def test_a_memory_whose_bandwidth_was_not_measured() -> None:
    header, one = header_of(SHAPES["7B"], "Q4_K_M"), measured(planned(model("7B")))
    unknown = replace(CPU_ALONE, bandwidth_bytes_per_s=None)

    assert bandwidth_share(header, one, Speed(HALF_WAY, (1.0,)), unknown) is None
