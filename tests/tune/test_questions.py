"""What is tried on which machine, and why some of it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.cli.tune import SETTINGS as SPELLED_AGAIN
from fwlocal.llama.numa import NUMA_STRATEGIES
from fwlocal.loader import options as loader_options
from fwlocal.loader.options import TUNABLE
from fwlocal.offload import Request, make_plan
from fwlocal.tune.questions import (
    SETTINGS,
    Cores,
    Facts,
    Question,
    named,
    questions,
    sizes_for,
    thread_counts,
)
from fwlocal.tune.system import MemorySystem, memory_system
from fwlocal.tuned import NAMES, NUMA
from tests.offload.models import card, machine, model

GIB = 1 << 30
FAST = sizes_for(4000.0, 100.0, 4096)
CPU = make_plan(model("7B"), machine(), Request(4096))
FACTS = Facts(Cores(8, 12, 24), CPU, 8, FAST, 4 * GIB, 64 * GIB, MemorySystem(1, "madvise"))


def asked(facts: Facts) -> dict[str, Question]:
    return {question.setting: question for question in questions(facts)}


def labels(question: Question) -> list[str]:
    return [candidate.label for candidate in question.candidates]


def test_the_settings_in_their_order() -> None:
    assert tuple(asked(FACTS)) == SETTINGS == SPELLED_AGAIN
    assert set(SETTINGS) | {"n_batch"} == {*NAMES, "huge_pages"}
    assert (TUNABLE, loader_options.NUMA) == (NAMES, NUMA)
    assert set(NUMA_STRATEGIES) == set(NUMA)
    assert [q.setting for q in named(questions(FACTS), ["mmap", "n_ubatch"])] == [
        "n_ubatch",
        "mmap",
    ]


def test_threads() -> None:
    found = asked(FACTS)

    assert found["n_threads"].default == "8"
    assert labels(found["n_threads"]) == ["1", "4", "12", "24"]
    assert found["n_threads"].tests[0].name == "tg128"
    assert found["n_threads_batch"].tests[0].name == "pp512"
    assert found["n_threads_batch"].candidates[0].changes == {"n_threads_batch": 1}
    assert asked(replace(FACTS, cores=Cores(1, 1, 1), n_threads=1))["n_threads"].why_none


@given(st.integers(1, 512), st.integers(0, 512), st.integers(0, 512))
def test_thread_counts_are_a_handful_of_what_there_is(fast: int, slow: int, more: int) -> None:
    cores = Cores(fast, fast + slow, fast + slow + more)
    found = thread_counts(cores)

    assert {cores.performance, cores.logical} <= set(found)
    assert len(found) <= 5
    assert all(1 <= count <= cores.logical for count in found)
    assert list(found) == sorted(set(found))


def test_micro_batches_fit_in_their_prompt() -> None:
    found = asked(FACTS)["n_ubatch"]

    assert labels(found) == ["128", "256", "1024", "2048"]
    assert found.tests[0].name == "pp2048"
    assert found.candidates[0].changes == {"n_ubatch": 128, "n_batch": 512}
    assert found.candidates[-1].changes == {"n_ubatch": 2048, "n_batch": 2048}
    slow = replace(FACTS, sizes=sizes_for(80.0, 1.0, 4096))
    assert labels(asked(slow)["n_ubatch"]) == ["128", "256"]


@pytest.mark.parametrize("tps", [16.0, 25.0, 60.0])
def test_a_slow_model_has_its_micro_batches_tried_by_a_short_prompt(tps: float) -> None:
    sizes = sizes_for(tps, 1.0, 4096)

    assert sizes.n_long == 256
    assert labels(asked(replace(FACTS, sizes=sizes))["n_ubatch"]) == ["128", "256"]


def test_why_no_micro_batch_is_tried() -> None:
    slow = replace(FACTS, sizes=sizes_for(2.0, 1.0, 4096))
    small = replace(FACTS, sizes=sizes_for(4000.0, 100.0, 128))

    assert "takes too long" in asked(slow)["n_ubatch"].why_none
    assert "context is too small" in asked(small)["n_ubatch"].why_none


def test_flash_attention_is_the_other_way_round() -> None:
    on_gpu = make_plan(model("7B"), machine(card(gib=24)), Request(4096))

    assert labels(asked(FACTS)["flash_attn"]) == [{"off": "on"}.get(CPU.flash_attn, "off")]
    assert labels(asked(replace(FACTS, plan=on_gpu))["flash_attn"]) == ["off"]
    quantized = replace(on_gpu, kv_type="q8_0")
    assert asked(replace(FACTS, plan=quantized))["flash_attn"].why_none
    deep = [test.name for test in asked(FACTS)["flash_attn"].tests]
    assert deep == ["pp512", "tg128 @ d2048"]


def test_a_quantized_kv_cache_is_lossy() -> None:
    found = asked(FACTS)["kv_type"]

    assert found.lossy
    assert found.candidates[0].changes == {"kv_type": "q8_0", "flash_attn": "on"}
    assert not asked(replace(FACTS, has_quantized_kv=False))["kv_type"].candidates
    assert [q.setting for q in questions(FACTS) if q.lossy] == ["kv_type"]


def test_memory_is_tried_where_there_is_enough() -> None:
    tight = asked(replace(FACTS, weights_bytes=40 * GIB))
    locked = asked(replace(FACTS, memory=MemorySystem(2, "always", 8 << 20)))

    assert asked(FACTS)["mmap"].by_load
    assert (asked(FACTS)["mmap"].default, labels(asked(FACTS)["mmap"])) == ("on", ["off"])
    copied = asked(replace(FACTS, plan=replace(CPU, mmap=False)))["mmap"]
    assert (copied.default, labels(copied)) == ("off", ["on"])
    assert tight["mmap"].why_none == "a copy of 40.0 GiB takes too much of the RAM"
    assert labels(asked(FACTS)["mlock"]) == ["on"]
    assert locked["mlock"].why_none == "8 MiB may be locked; raise the limit (ulimit -l)"
    assert labels(locked["numa"]) == ["distribute", "isolate"]
    assert asked(FACTS)["numa"].why_none == "one node, nothing to choose"


@pytest.mark.parametrize("word", ["always", "madvise", "never", ""])
def test_huge_pages_are_told_and_not_tried(word: str) -> None:
    found = asked(replace(FACTS, memory=MemorySystem(1, word)))["huge_pages"]

    assert not found.candidates
    assert found.why_none
    assert found.default == (word or "unknown")


@given(st.floats(0.1, 1e6), st.floats(0.01, 1e5), st.sampled_from([0, 256, 512, 2048, 131072]))
def test_tests_are_within_what_the_model_knows(
    prefill_tps: float, decode_tps: float, trained: int
) -> None:
    found = sizes_for(prefill_tps, decode_tps, trained)

    assert 1 <= found.n_prompt <= found.n_long
    assert 16 <= found.n_gen <= 128
    assert found.n_depth >= 0
    if trained:
        assert found.n_tokens <= trained


def test_what_the_system_says(tmp_path: Path) -> None:
    for name in ("node0", "node1", "online"):
        (tmp_path / name).mkdir()
    word = tmp_path / "enabled"
    word.write_text("always [madvise] never\n")

    found = memory_system(tmp_path, word)

    assert (found.n_nodes, found.huge_pages) == (2, "madvise")
    nothing = memory_system(tmp_path / "none", tmp_path / "none")
    assert (nothing.n_nodes, nothing.huge_pages) == (1, "")
