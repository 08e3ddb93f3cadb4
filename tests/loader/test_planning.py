"""Plans for the machine as it is: what is risky, what grows, what is tried."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal import hardware
from fwlocal.errors import DoesNotFit, Interrupted, NetworkError
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Device, Machine
from fwlocal.interrupts import Interrupt
from fwlocal.loader.planning import (
    Settled,
    Site,
    check_growth,
    is_risky,
    look_around,
    settle,
    with_less,
)
from fwlocal.loader.trial import Trial, Trials
from fwlocal.offload import Request, make_plan
from fwlocal.whole import read_whole
from tests.offload.models import MIB, card, machine, model

TINY = Request(512, kv_type="f16")


def settled(where: Machine, request: Request) -> Settled:
    plan = make_plan(model("7B"), where, request)
    return Settled(Path("7B.gguf"), model("7B"), Site(where), request, plan, {})


@pytest.fixture
def header(tiny_gguf: Path) -> GGUFHeader:
    return read_whole(tiny_gguf)


def full(device: Device, *, left_mib: int) -> Settled:
    """All of the 7B on a device that then has so much free."""
    all_of = settled(machine(card(gib=80)), Request(4096, "f16")).plan.gpus[0].total_bytes
    tight = replace(device, free_bytes=all_of + left_mib * MIB)
    return settled(machine(tight), Request(4096, "f16", n_gpu_layers=33))


def test_a_card_that_is_nearly_full_is_a_risk() -> None:
    assert is_risky(full(card(), left_mib=100))
    assert not is_risky(full(card(), left_mib=300))


def test_a_worker_is_none_since_its_engine_is_in_another_process_anyway() -> None:
    assert not is_risky(full(card("RPC0", backend="RPC"), left_mib=100))


def test_without_gpus_the_plan_is_the_cpus(tiny_gguf: Path, header: GGUFHeader) -> None:
    site = look_around()
    plan = settle(
        tiny_gguf, header, replace(site, machine=Machine(site.machine.ram, ())), TINY
    ).plan

    assert (plan.n_gpu_layers, plan.n_ctx, len(plan.shares)) == (0, 512, 1)


def test_compute_buffers_are_measured_where_memory_is_scarce(
    tiny_gguf: Path, header: GGUFHeader
) -> None:
    need = settle(tiny_gguf, header, look_around(), TINY).plan.host.total_bytes
    scarce = hardware.Memory(need * 11 // 10, need * 11 // 10)

    measured = settle(tiny_gguf, header, Site(Machine(scarce, ())), TINY)

    assert measured.measured
    assert measured.plan.host.total_bytes <= need


def test_a_context_grows_while_there_is_room(tiny_gguf: Path, header: GGUFHeader) -> None:
    tiny = settle(tiny_gguf, header, look_around(), TINY)

    check_growth(tiny, 512, 1024)
    check_growth(tiny, 0, 1024)
    with pytest.raises(DoesNotFit, match=r"more on CPU, where .* may be used; take less than"):
        check_growth(tiny, 512, 1 << 40)


def test_a_refusal_without_a_gpu_is_final(tiny_gguf: Path, header: GGUFHeader) -> None:
    refusal = DoesNotFit("not enough memory")
    with pytest.raises(DoesNotFit, match="not enough memory") as caught:
        with_less(settle(tiny_gguf, header, look_around(), TINY), refusal, header)
    assert caught.value is refusal


def test_a_worker_that_is_missing_is_named() -> None:
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:1: no one listens") as caught:
        look_around(["127.0.0.1:1"])
    assert caught.value.exit_code == 4


def test_a_worker_that_is_busy_is_not_waited_for(tiny_gguf: Path, header: GGUFHeader) -> None:
    plan = settle(tiny_gguf, header, look_around(), TINY).plan
    with socket.create_server(("127.0.0.1", 0)) as server, Trials() as trials:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(NetworkError, match=f"worker {address} takes the connection but"):
            trials.dry_buffers(Trial(tiny_gguf, plan, [address], 1, dry=True))


def test_ctrl_c_is_heard_while_a_trial_runs(tiny_gguf: Path, header: GGUFHeader) -> None:
    plan, interrupt = settle(tiny_gguf, header, look_around(), TINY).plan, Interrupt()
    with socket.create_server(("127.0.0.1", 0)) as server, Trials(interrupt) as trials:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        soon = threading.Timer(0.5, interrupt.set)
        soon.start()
        with pytest.raises(Interrupted):
            trials.dry_buffers(Trial(tiny_gguf, plan, [address], 1, dry=True))
        soon.join()


def test_an_abort_in_a_trial_is_survived(tiny_gguf: Path, header: GGUFHeader) -> None:
    plan = settle(tiny_gguf, header, look_around(), TINY).plan
    nobody = Trial(tiny_gguf, plan, ["127.0.0.1:1"], 1, dry=False)
    with Trials() as trials:
        with pytest.raises(DoesNotFit, match=r"a trial load ended llama\.cpp .*Failed to connect"):
            trials.buffers(nobody)
        assert trials.dry_buffers(replace(nobody, dry=True)) is None
        assert trials.buffers(replace(nobody, workers=())), "the next trial has a new child"


def test_a_trial_tells_what_a_load_takes(tiny_gguf: Path, header: GGUFHeader) -> None:
    plan = settle(tiny_gguf, header, look_around(), TINY).plan
    trial = Trial(tiny_gguf, plan, (), 1, dry=False)
    with Trials() as trials:
        full_load, dry = trials.buffers(trial), trials.dry_buffers(replace(trial, dry=True))

    assert dry is not None
    compute = [
        [b.size_bytes for b in buffers if b.kind == "compute"] for buffers in (full_load, dry)
    ]
    assert compute[0] == compute[1]
    kv_bytes = sum(b.size_bytes for b in full_load if b.kind == "kv")
    assert kv_bytes == pytest.approx(plan.host.kv_bytes, abs=MIB // 100)  # as the log rounds
    assert not sum(b.size_bytes for b in dry if b.kind == "kv")
