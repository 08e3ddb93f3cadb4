"""A run on a tiny model: what is found, and that a load uses what is remembered, and when not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal import hardware, llama, tuned
from fwlocal.bench.measured import Entrant
from fwlocal.bench.result import SpeedTest
from fwlocal.engine import Engine
from fwlocal.errors import FwlocalError, Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.llama.bindings import lib
from fwlocal.loader import EngineOptions, Library, open_file, open_model
from fwlocal.loader.options import request_of
from fwlocal.loader.planning import Settled, look_around, settle
from fwlocal.loader.remembered import chosen
from fwlocal.offload import Request
from fwlocal.tune.loads import Loads
from fwlocal.tune.questions import Candidate, Question
from fwlocal.tune.run import Heard, Run, Wish
from fwlocal.tuned import Finding, Settings, Tuned

ONE = EngineOptions(n_threads=1, n_gpu_layers=0)
TESTS = SpeedTest(16, 0), SpeedTest(0, 4)
FITTING = Settings(
    n_threads=3,
    n_threads_batch=2,
    n_batch=512,
    n_ubatch=128,
    flash_attn="on",
    mmap=False,
)


@pytest.fixture
def entrant(tiny_gguf: Path, library: Library) -> Entrant:
    return Entrant("F32", *open_file(str(tiny_gguf), library))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where settings are remembered."""
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "cache"))
    return tuned.default_folder()


def remember(folder: Path, entrant: Entrant, settings: Settings, build: str | None = None) -> Tuned:
    gpus = hardware.machine(llama.devices()).gpus
    where = tuned.this_machine(gpus, build or llama.build_info())
    shape = tuned.shape_of(entrant.header)
    known = Tuned("tiny", shape, where, "CPU", settings, (), "2030-01-01T00:00:00+00:00")
    tuned.keep(folder, known)
    return known


def settled(entrant: Entrant, options: EngineOptions) -> Settled:
    request = request_of(options, entrant.header)
    return settle(entrant.file.path, entrant.header, look_around((), options.n_threads), request)


def test_a_run(entrant: Entrant) -> None:
    findings: list[Finding] = []
    estimates: list[float] = []
    heard = Heard(estimate=estimates.append, found=findings.append)

    only = ("n_ubatch", "flash_attn", "numa", "mmap")
    outcome = Run(entrant, ONE, Wish(only, n_pairs=2), heard, Interrupt()).measure()
    found = outcome.tuned

    settings = [finding.setting for finding in found.findings]
    assert settings == ["n_ubatch", "flash_attn", "mmap", "numa"]
    assert len(findings) == 4
    assert estimates[0] > 0
    assert outcome.exact is None, "it was not asked for"
    assert found.shape == tuned.shape_of(entrant.header)
    assert found.placed == "CPU"
    numa = found.findings[-1]
    assert numa.verdict in ("none", "noise", "default", "taken")
    names = {name for name in found.settings.taken() if name != "n_batch"}
    assert names == {f.setting for f in found.findings if f.verdict == "taken"}


def test_where_nothing_is_tried_no_time_is_told(entrant: Entrant) -> None:
    estimates: list[float] = []
    heard = Heard(estimate=estimates.append)

    found = Run(entrant, ONE, Wish(("huge_pages",)), heard, Interrupt()).measure()

    assert not estimates
    assert found.tuned.n_measured == 0


def test_a_run_is_stopped(entrant: Entrant) -> None:
    interrupt = Interrupt()
    heard = Heard(asking=lambda question: interrupt.set(15))

    with pytest.raises(Interrupted) as caught:
        Run(entrant, ONE, Wish(("n_ubatch",), n_pairs=2), heard, interrupt).measure()
    assert caught.value.exit_code == 143


def test_loads_are_timed_in_processes_of_their_own(entrant: Entrant) -> None:
    question = Question("mmap", "on", (Candidate("off", {"mmap": False}),), TESTS, by_load=True)
    loads = Loads(entrant, 512, Interrupt())
    options = replace(ONE, tuned=False)

    (pair,) = loads.time(question, options, replace(options, mmap=False), 1)

    assert len(pair.best) == len(pair.candidate) == 3
    assert all(seconds > 0 for seconds in (*pair.best, *pair.candidate))


def test_a_load_that_fails_is_a_refusal(entrant: Entrant, tmp_path: Path) -> None:
    entrant.file.path.rename(tmp_path / "away.gguf")
    question = Question("mmap", "on", (), TESTS, by_load=True)
    try:
        with pytest.raises(FwlocalError):
            Loads(entrant, 512, Interrupt()).time(question, ONE, ONE, 1)
    finally:
        (tmp_path / "away.gguf").rename(entrant.file.path)


def test_a_load_takes_what_is_remembered(
    folder: Path, entrant: Entrant, library: Library, tiny_gguf: Path
) -> None:
    remember(folder, entrant, FITTING)

    with open_model(
        str(tiny_gguf), EngineOptions(n_gpu_layers=0), library=library
    ).engine as engine:
        assert isinstance(engine, Engine)
        list(engine.generate([5], max_tokens=1))
        handle = engine.cache.context.handle
        assert lib.llama_n_threads(handle) == 3
        assert lib.llama_n_threads_batch(handle) == 2
        assert lib.llama_n_ubatch(handle) == 128


def test_the_plan_tells_what_was_tuned(folder: Path, entrant: Entrant) -> None:
    remember(folder, entrant, FITTING)
    plan = settled(entrant, EngineOptions(n_gpu_layers=0)).plan

    assert plan.tuned == tuple(FITTING.taken())
    assert (plan.n_threads, plan.n_threads_batch, plan.n_ubatch) == (3, 2, 128)
    assert (plan.flash_attn, plan.mmap) == ("on", False)
    assert settled(entrant, EngineOptions(n_gpu_layers=0)).at(512).tuned == plan.tuned


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ({"n_threads": 1}, {"n_threads": 1, "n_threads_batch": 1, "n_ubatch": 128}),
        ({"n_threads_batch": 1}, {"n_threads": 3, "n_threads_batch": 1}),
        ({"n_ubatch": 64}, {"n_ubatch": 64, "n_threads": 3}),
        ({"n_batch": 64}, {"n_batch": 64, "n_ubatch": 64}),
        ({"flash_attn": "off"}, {"flash_attn": "off"}),
        ({"mmap": True}, {"mmap": True, "flash_attn": "on"}),
        ({"mlock": True}, {"mlock": True, "mmap": False}),
    ],
)
def test_what_is_asked_for_stays(
    folder: Path, entrant: Entrant, asked: dict[str, object], taken: dict[str, object]
) -> None:
    remember(folder, entrant, FITTING)
    options = EngineOptions(n_gpu_layers=0, **asked)  # type: ignore[arg-type]

    plan = settled(entrant, options).plan

    assert {name: getattr(plan, name) for name in taken} == taken
    assert not set(asked) & set(plan.tuned)


def test_without_tuned_nothing_of_it_is_used(folder: Path, entrant: Entrant) -> None:
    remember(folder, entrant, FITTING)
    plan = settled(entrant, EngineOptions(n_gpu_layers=0, tuned=False)).plan

    assert plan.tuned == ()
    assert (plan.n_threads, plan.n_ubatch) == (hardware.default_threads(), 512)


def test_another_llama_cpps_settings_are_not_used(folder: Path, entrant: Entrant) -> None:
    remember(folder, entrant, FITTING, build="llama.cpp 0: AVX = 1")

    assert settled(entrant, EngineOptions(n_gpu_layers=0)).plan.tuned == ()


def test_settings_that_do_not_fit_any_more_are_left(folder: Path, entrant: Entrant) -> None:
    remember(folder, entrant, replace(FITTING, n_ubatch=1 << 16, n_batch=1 << 16))
    options = EngineOptions(n_gpu_layers=0)
    request = request_of(options, entrant.header)
    site = look_around()
    need = settled(entrant, replace(options, tuned=False)).plan.host.total_bytes
    scarce = hardware.Memory(need + (1 << 20), need + (1 << 20))
    tight = replace(site, machine=hardware.Machine(scarce, ()))

    plan = settle(entrant.file.path, entrant.header, tight, request).plan

    assert (plan.tuned, plan.n_ubatch) == ((), 512)


def test_a_quantized_cache_and_flash_attention_are_of_one_mind() -> None:
    every = ("flash_attn", "kv_type", "n_threads")
    off = Settings(flash_attn="off", n_threads=2)
    quantized = Settings(flash_attn="on", kv_type="q8_0")

    asked_quantized = chosen(Request(512, "q8_0", unasked=("flash_attn", "n_threads")), 1, off)
    asked_off = chosen(Request(512, flash_attn="off", unasked=("kv_type",)), 1, quantized)
    neither = chosen(Request(512, unasked=every), 1, quantized)

    assert asked_quantized is not None
    assert asked_quantized.names == ("n_threads",)
    assert asked_off is None
    assert neither is not None
    assert (neither.request.kv_type, neither.request.flash_attn) == ("q8_0", "on")
