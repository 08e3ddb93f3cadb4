"""Offloading for real: workers on loopback, whose devices are GPUs to llama.cpp."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.audit import compare
from fwlocal.errors import DoesNotFit
from fwlocal.gguf import GGUFHeader
from fwlocal.loader import EngineOptions, Library, load, open_file, open_model
from fwlocal.loader.planning import Settled, Site, look_around, settle
from fwlocal.loader.trial import Trial, Trials
from fwlocal.offload import Request
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams
from fwlocal.whole import read_whole
from tests import tiny_llama
from tests.workers.loopback import LoopbackWorker

MIB = 1 << 20
N_BUDGETS = 20
LOG_ROUNDING = 3 * 5243  # bytes: it tells hundredths of a MiB of each kind
REQUEST = Request(2048, kv_type="f16", margin_bytes=0)
SHAPE = tiny_llama.Shape(
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=16,
    num_attention_heads=4,
    max_position_embeddings=16384,
)
GREEDY = SamplingParams(temperature=0)
ASKED = [Message("user", "the whale sings")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """51 MB in 16 layers."""
    return tiny_llama.write_gguf(tmp_path_factory.mktemp("model") / "deep.gguf", SHAPE)


@pytest.fixture(scope="module")
def header(model: Path) -> GGUFHeader:
    return read_whole(model)


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[str, ...]]:
    """The addresses of three workers."""
    with LoopbackWorker() as one, LoopbackWorker() as two, LoopbackWorker() as three:
        yield one.address, two.address, three.address


@pytest.fixture(scope="module")
def site(workers: tuple[str, ...]) -> Site:
    return look_around(workers[:1], n_threads=1)


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    with Trials() as trials:
        yield trials


def taken(trials: Trials, settled: Settled) -> dict[str, dict[str, int]]:
    """What a real load by the plan takes of each device."""
    site = settled.site
    trial = Trial(settled.path, settled.plan, site.workers, site.n_threads, dry=False)
    buffers = trials.buffers(trial)
    return {
        device.device: dict(device.actual)
        for device in compare(settled.plan, buffers, site.buffer_names)
    }


@pytest.fixture(scope="module")
def everything(model: Path, header: GGUFHeader, site: Site) -> int:
    """Bytes of a GPU that holds all layers."""
    return settle(model, header, site, REQUEST).plan.gpus[0].total_bytes


@pytest.mark.parametrize("step", range(N_BUDGETS + 1))
def test_a_plan_takes_what_it_says_and_one_layer_more_would_not_fit(
    step: int, model: Path, header: GGUFHeader, site: Site, trials: Trials, everything: int
) -> None:
    budget = everything * step // N_BUDGETS
    settled = settle(model, header, site, replace(REQUEST, gpu_memory=(budget,)))
    plan = settled.plan

    actual = taken(trials, settled)

    for share in plan.shares:
        planned = (share.weights_bytes, share.kv_bytes, share.compute_bytes)
        for kind, n_bytes in zip(("weights", "kv", "compute"), planned, strict=True):
            assert n_bytes == pytest.approx(actual[share.device][kind], rel=0.02, abs=MIB // 4)
    assert sum(actual.get("RPC0", {}).values()) <= budget + LOG_ROUNDING
    assert plan.n_gpu_layers == plan.n_layers if step == N_BUDGETS else plan.n_layers > 0
    if plan.n_gpu_layers < plan.n_layers:
        one_more = replace(REQUEST, n_gpu_layers=plan.n_gpu_layers + 1)
        larger = settle(model, header, site, one_more)
        assert sum(taken(trials, larger)["RPC0"].values()) > budget


def greedy_text(model: Path, library: Library, **options: object) -> tuple[str, int]:
    """The answer, and how many layers are on GPUs."""
    asked = EngineOptions(prompt_format="freewilly2", n_threads=1, **options)  # type: ignore[arg-type]
    loaded = open_model(str(model), asked, library)
    with loaded.engine as engine:
        text = "".join(engine.chat(ASKED, sampling=GREEDY, max_tokens=24))
    return text, loaded.plan.n_gpu_layers


def test_the_same_text_wherever_the_layers_are(
    model: Path, library: Library, workers: tuple[str, ...], everything: int
) -> None:
    on_the_cpu = greedy_text(model, library, flash_attn="on")  # as on GPUs
    half = greedy_text(model, library, workers=workers[:1], n_gpu_layers=8)
    whole = greedy_text(model, library, workers=workers[:1])
    parts = (everything * 3 // 4, everything * 2 // 3)
    cards = [
        greedy_text(
            model,
            library,
            workers=workers[:count],
            gpu_memory=(part,) * count,
            gpu_margin=0,
            n_ctx=2048,
            kv_type="f16",
        )
        for count, part in ((2, parts[0]), (3, parts[1]))
    ]

    assert [n for _, n in (on_the_cpu, half, whole, *cards)] == [0, 8, 17, 17, 17]
    assert len({text for text, _ in (on_the_cpu, half, whole, *cards)}) == 1
    assert on_the_cpu[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_a_device_that_refuses_gets_fewer_layers(model: Path, library: Library) -> None:
    said: list[str] = []
    file, header = open_file(str(model), library)
    with LoopbackWorker(memory_limit_bytes=127 * MIB) as worker:
        options = EngineOptions(
            workers=(worker.address,),
            prompt_format="freewilly2",
            n_threads=1,
            n_ctx=4096,
            kv_type="f16",
        )
        loaded = load(file, header, options, notify=said.append)
        with loaded.engine as engine:
            text = "".join(engine.chat(ASKED, sampling=GREEDY, max_tokens=4))

    assert 0 < loaded.plan.n_gpu_layers < 17
    assert text
    assert said
    assert all("RPC0 refused " in line and "; again with " in line for line in said)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_a_worker_that_comes_back_with_less_gets_fewer_layers(
    model: Path, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    with LoopbackWorker(memory_limit_bytes=2048 * MIB) as worker:
        options = EngineOptions(
            workers=(worker.address,),
            prompt_format="freewilly2",
            n_threads=1,
            n_ctx=4096,
            kv_type="f16",
        )
        with open_model(str(model), options, library).engine as engine:
            before = "".join(engine.chat(ASKED, sampling=GREEDY, max_tokens=4))
            worker.kill()
            worker.memory_limit_bytes = 127 * MIB
            worker.restart()
            after = "".join(engine.chat(ASKED, sampling=GREEDY, max_tokens=4))

    assert before == after
    assert "RPC0 refused " in caplog.text


def test_a_context_does_not_grow_beyond_what_may_be_used(
    model: Path, library: Library, workers: tuple[str, ...], everything: int
) -> None:
    options = EngineOptions(
        workers=workers[:1], gpu_memory=(2 * everything,), gpu_margin=0, kv_type="f16", n_threads=1
    )
    loaded = open_model(str(model), replace(options, prompt_format="freewilly2"), library)
    with loaded.engine as engine:
        budget = loaded.plan.gpus[0].budget_bytes
        assert loaded.plan.gpus[0].total_bytes < budget
        with pytest.raises(DoesNotFit, match=r"may be used; start with --n-ctx 10240, so that it"):
            list(engine.generate([5] * 10000, max_tokens=1))
        assert "".join(engine.chat(ASKED, sampling=GREEDY, max_tokens=4)), "and goes on"


def test_the_audit_is_kept(
    model: Path, library: Library, workers: tuple[str, ...], home: Path
) -> None:
    from fwlocal.audit import read_all

    home.mkdir()
    greedy_text(model, library, workers=workers[:1])

    (audit,) = read_all(home)
    assert audit.file == str(model)
    assert [device.device for device in audit.devices] == ["RPC0", "CPU"]
    assert not audit.is_off
