"""A level's part of a round: which tests, in which order, what else is measured, and its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.bench.context_tests import Spent
from fwlocal.bench.measured import EnergyUsed, Entrant, Round
from fwlocal.bench.result import SpeedTest
from fwlocal.bench.speed import (
    DEFAULT_TESTS,
    energy_of,
    joined,
    measure,
    needed_n_ctx,
    possible,
    series,
)
from fwlocal.errors import Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions, Library, open_file

OPTIONS = EngineOptions(n_threads=1, n_gpu_layers=0, kv_type="f16")
PP, TG = SpeedTest(40, 0), SpeedTest(0, 5)
TESTS = series(40, 5, (0, 100, 300))


@pytest.fixture
def entrant(tiny_gguf: Path, library: Library) -> Entrant:
    return Entrant("F32", *open_file(str(tiny_gguf), library))


def test_the_default_tests_are_llama_benchs_at_three_depths() -> None:
    assert [test.name for test in DEFAULT_TESTS] == [
        "pp512",
        "tg128",
        "pp512 @ d2048",
        "tg128 @ d2048",
        "pp512 @ d4096",
        "tg128 @ d4096",
    ]
    assert needed_n_ctx(DEFAULT_TESTS) == 4608
    assert series(0, 128, (0,)) == (SpeedTest(0, 128),)


def test_depths_beyond_the_training_are_left_out(entrant: Entrant) -> None:
    shallow, deep, too_deep = SpeedTest(512, 0), SpeedTest(0, 128, 512), SpeedTest(0, 128, 513)

    assert possible((shallow, deep, too_deep), entrant.header) == (shallow, deep)


def test_every_test_has_its_speed_in_the_order_asked(entrant: Entrant) -> None:
    begun: list[SpeedTest] = []
    asked = (SpeedTest(0, 5, 300), PP, SpeedTest(40, 0, 300), TG)

    found = measure(entrant, OPTIONS, asked, cold=False, seed=3, on_test=begun.append)

    assert tuple(test for test, _ in found.speeds) == asked
    assert all(tps > 0 for _, tps in found.speeds)
    assert begun == [PP, TG, SpeedTest(0, 5, 300), SpeedTest(40, 0, 300)]
    assert (found.n_gpu_layers, found.n_layers) == (0, 3)
    assert found.load_cold_s is None
    assert found.load_warm_s > 0
    assert found.peak_rss_bytes is not None
    assert found.peak_rss_bytes > found.devices[0].total > 0


def test_a_round_that_was_stopped_goes_on_with_what_it_lacks(entrant: Entrant) -> None:
    so_far: list[Round] = []
    measure(entrant, OPTIONS, TESTS, cold=False, on_tested=so_far.append)
    assert [len(one.speeds) for one in so_far] == [1, 2, 3, 4, 5, 6]

    begun: list[SpeedTest] = []
    found = measure(entrant, OPTIONS, TESTS, cold=False, before=so_far[3], on_test=begun.append)
    assert begun == list(TESTS[4:])
    assert found.speeds[:4] == so_far[3].speeds
    assert tuple(test for test, _ in found.speeds) == TESTS
    assert found.load_warm_s == so_far[3].load_warm_s
    assert found.started == so_far[3].started


def test_energy_of_a_round_in_two_parts_is_summed_or_none() -> None:
    one = EnergyUsed("RAPL package-0", 8.0, 40, 5.0, 10)
    half = Round(((PP, 1.0),), 0.5, 2.0, 10, 0, 3, (), one)
    rest = Round(((TG, 2.0),), 0.7, None, 30, 0, 3, (), one)
    found = joined(half, rest, (PP, TG))
    assert found.speeds == ((PP, 1.0), (TG, 2.0))
    assert (found.load_warm_s, found.load_cold_s, found.peak_rss_bytes) == (0.5, 2.0, 30)
    assert found.energy == EnergyUsed("RAPL package-0", 16.0, 80, 10.0, 20)
    assert joined(half, replace(rest, energy=None), (PP, TG)).energy is None


def test_a_cold_load_is_timed_where_the_file_can_be_put_out_of_memory(entrant: Entrant) -> None:
    found = measure(entrant, OPTIONS, [TG], cold=True)

    assert found.load_cold_s is None or found.load_cold_s > 0


def test_energy_is_summed_by_kind_of_test() -> None:
    found = {PP: Spent(1.0, 8.0), TG: Spent(1.0, 2.0), SpeedTest(0, 5, 300): Spent(1.0, 3.0)}

    assert energy_of(found, "RAPL package-0") == EnergyUsed("RAPL package-0", 8.0, 40, 5.0, 10)


def test_energy_that_was_not_always_counted_is_none() -> None:
    assert energy_of({PP: Spent(1.0, 8.0), TG: Spent(1.0, None)}, "RAPL package-0") is None
    assert energy_of({}, "") is None


def test_without_tests_a_load_is_timed(entrant: Entrant) -> None:
    found = measure(entrant, OPTIONS, (), cold=False)

    assert found.speeds == ()
    assert found.load_warm_s > 0


def test_a_round_can_be_stopped_between_tests(entrant: Entrant) -> None:
    interrupt, begun = Interrupt(), list[SpeedTest]()

    def on_test(test: SpeedTest) -> None:
        begun.append(test)
        if len(begun) == 2:
            interrupt.set()

    with pytest.raises(Interrupted):
        measure(entrant, OPTIONS, TESTS, cold=False, on_test=on_test, interrupt=interrupt)
    assert len(begun) == 2
