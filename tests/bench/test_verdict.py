"""Which levels are on the front, which one is taken for what is wished, and why."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.bench.result import (
    DeviceBytes,
    Difference,
    LevelResult,
    Quality,
    Speed,
    SpeedTest,
    Value,
    Verdict,
)
from fwlocal.bench.verdict import Wishes, decide, decode_speed, decode_tps, front, memory_bytes
from fwlocal.sizes import MIB

TG = SpeedTest(0, 128)
GB = 10**9
NO_WISH = Wishes()


def quality(kld: float, n_nan: int = 0) -> Quality:
    """With this mean KLD."""
    v = Value(kld)
    return Quality(8, 2040, n_nan, v, v, v, v, v, v, v, v, v, v, v)


def level(
    label: str,
    size_gb: float,
    tps: float | None = None,
    kld: float | None = None,
    n_nan: int = 0,
    problem: str = "",
) -> LevelResult:
    """A level with these three measures; the one at a distance of 0 is the reference."""
    return LevelResult(
        label,
        f"{label}.gguf",
        int(size_gb * GB),
        size_gb,
        is_reference=kld == 0,
        problem=problem,
        speeds=() if tps is None else (Speed(TG, (tps,)),),
        quality=None if kld is None else quality(kld, n_nan),
    )


def tie(a: str, b: str, measure: str) -> Difference:
    return Difference(a, b, measure, 0.001, -0.01, 0.02)


def apart(a: str, b: str, measure: str) -> Difference:
    return Difference(a, b, measure, 0.01, 0.005, 0.02)


LADDER = (
    level("F16", 14, 5, 0.0),
    level("Q8_0", 7.5, 9, 0.001),
    level("Q5_0", 5, 12, 0.02),
    level("Q4_K_M", 4.2, 14.2, 0.015),
    level("Q4_0", 4, 13, 0.04),
    level("Q2_K", 2.8, 13.5, 0.3),
)


def decided(
    wishes: Wishes, levels: Sequence[LevelResult] = LADDER, differences: Sequence[Difference] = ()
) -> Verdict:
    return decide(levels, differences, wishes, lambda one: f"fwlocal run -m m:{one.label}")


# -- the front -----------------------------------------------------------------------------------


def test_the_front_is_whom_nobody_beats() -> None:
    """Q5_0 is larger, slower and farther off than Q4_K_M."""
    assert front(LADDER, ()) == ("F16", "Q8_0", "Q4_K_M", "Q4_0", "Q2_K")


def test_a_tie_is_no_advantage() -> None:
    large, small = level("Q5_K_M", 5, 12, 0.0101), level("Q5_K_S", 4.8, 12.1, 0.0103)
    assert front((large, small), [apart("Q5_K_M", "Q5_K_S", "kld_mean")]) == ("Q5_K_M", "Q5_K_S")
    assert front((large, small), [tie("Q5_K_M", "Q5_K_S", "kld_mean")]) == ("Q5_K_S",)


def test_two_copies_are_both_on_it() -> None:
    copies = level("a", 5, 12, 0.02), level("b", 5, 12.3, 0.02)
    assert front(copies, [tie("a", "b", "tg128"), tie("a", "b", "kld_mean")]) == ("a", "b")
    assert front(copies, [tie("a", "b", "kld_mean")]) == ("b",)


def test_who_has_a_problem_or_lacks_a_measure_is_not_on_it() -> None:
    levels = (
        level("F16", 14, 5, 0.0),
        level("Q8_0", 7, 9, problem="does not fit"),
        level("Q6_K", 6, None, 0.002),
        level("Q4_0", 4, 13, float("nan")),
        level("Q3_K", 3, 50, 0.02, n_nan=4),
        level("Q2_K", 2, 60),
    )
    assert front(levels, ()) == ("F16",)


def test_nan_of_the_reference_itself_is_not_the_levels_fault() -> None:
    levels = (
        level("F16", 14, 5, 0.0, n_nan=4),
        level("Q8_0", 7, 9, 0.001, n_nan=4),
        level("Q4_0", 4, 13, 0.02, n_nan=5),
    )
    assert front(levels, ()) == ("F16", "Q8_0")


def test_without_quality_or_without_speed_the_rest_decides() -> None:
    by_speed = (level("Q8_0", 8, 9), level("Q4_0", 4, 13), level("Q4_1", 5, 12))
    assert front(by_speed, ()) == ("Q4_0",)
    by_kld = (level("Q8_0", 8, None, 0.0), level("Q4_0", 4, None, 0.1), level("Q4_1", 5, None, 0.2))
    assert front(by_kld, ()) == ("Q8_0", "Q4_0")
    assert front((level("Q8_0", 8), level("Q4_0", 4)), ()) == ()
    assert front((), ()) == ()


@given(
    st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["kld_mean", "tg128"])), max_size=6),
)
def test_the_front_leaves_out_only_who_is_beaten(
    figures: list[tuple[int, int, int]], ties: list[tuple[int, str]]
) -> None:
    levels = [level(f"L{i}", size, tps, kld) for i, (size, tps, kld) in enumerate(figures)]
    marked = front(levels, ())
    assert marked
    for one, (size, tps, kld) in zip(levels, figures, strict=True):
        beaten = any(
            s <= size and t >= tps and k <= kld and (s, t, k) != (size, tps, kld)
            for s, t, k in figures
        )
        assert (one.label in marked) is not beaten
    differences = [tie(f"L{i}", f"L{i + 1}", measure) for i, measure in ties]
    assert set(front(levels, differences)) <= {one.label for one in levels}


def test_decoding_at_depth_0_counts_or_at_the_least() -> None:
    deep, flat = Speed(SpeedTest(0, 128, 2048), (8.0,)), Speed(TG, (9.0, 11.0, 10.0))
    prompt = Speed(SpeedTest(512, 0), (100.0,))
    one = LevelResult("a", "", 1, 1, speeds=(prompt, deep, flat))
    assert decode_speed(one) is flat
    assert decode_tps(one) == 10.0
    assert decode_tps(LevelResult("a", "", 1, 1, speeds=(prompt, deep))) == 8.0
    assert decode_tps(LevelResult("a", "", 1, 1, speeds=(prompt,))) is None


# -- what to take --------------------------------------------------------------------------------


def test_without_a_wish_there_is_the_front_alone() -> None:
    assert decided(NO_WISH) == Verdict(("F16", "Q8_0", "Q4_K_M", "Q4_0", "Q2_K"))


CHOICES = {
    "the fastest within a KLD": (Wishes(max_kld=0.02), "Q4_K_M"),
    "the limit itself is within": (Wishes(max_kld=0.001), "Q8_0"),
    "only the reference": (Wishes(max_kld=0.0), "F16"),
    "the nearest that is fast enough": (Wishes(min_tps=9), "Q8_0"),
    "the nearest that fits": (Wishes(memory_bytes=5 * GB), "Q4_K_M"),
    "all three": (Wishes(0.05, 10, 4_100_000_000), "Q4_0"),
    "fast and small": (Wishes(min_tps=13.2, memory_bytes=4 * GB), "Q2_K"),
}


@pytest.mark.parametrize(("wishes", "label"), CHOICES.values(), ids=CHOICES)
def test_the_level_that_is_taken(wishes: Wishes, label: str) -> None:
    verdict = decided(wishes)
    assert verdict.label == label
    assert verdict.command == f"fwlocal run -m m:{label}"
    assert f", {label} is the " in verdict.reason


def test_the_reason_has_the_figures() -> None:
    assert decided(Wishes(max_kld=0.02, memory_bytes=6 * GB)).reason == (
        "of the levels that take at most 5.588 GiB and have a mean KLD of at most 0.02, Q4_K_M is "
        "the fastest: a mean KLD of 0.015, 14.2 tok/s, a file of 3.912 GiB"
    )
    assert decided(Wishes(min_tps=13)).reason == (
        "of the levels that reach 13 tok/s, Q4_K_M is the nearest to the reference: a mean KLD of "
        "0.015, 14.2 tok/s, a file of 3.912 GiB"
    )


def test_memory_is_told_in_the_tables_units_with_what_it_counts() -> None:
    speeds = (Speed(SpeedTest(512, 0), (100,)), Speed(SpeedTest(0, 128, 4096), (9,)))
    devices = (DeviceBytes("CUDA0", 90 * MIB, 8 * MIB, 2 * MIB), DeviceBytes("CPU", MIB, 0, 0))
    one = LevelResult("Q4_0", "", 88 * MIB, 4.5, speeds=speeds, devices=devices)
    assert decided(Wishes(memory_bytes=200 * MIB), [one]).reason.endswith(
        "9 tok/s, 101 MiB of memory (weights, a KV cache of 4,352 tokens and buffers)"
    )
    assert decided(Wishes(memory_bytes=100 * MIB), [one]).reason == (
        "no level takes at most 100 MiB; the smallest is Q4_0 with 101 MiB of memory (weights, "
        "a KV cache of 4,352 tokens and buffers)"
    )


def test_among_ties_the_smaller_or_the_faster_is_taken() -> None:
    ladder = (level("Q5_0", 5, 12.1, 0.010), level("Q4_K_M", 4.2, 12.0, 0.012))
    in_speed = decided(Wishes(max_kld=0.1), ladder, [tie("Q5_0", "Q4_K_M", "tg128")])
    assert in_speed.label == "Q4_K_M"
    assert "Q4_K_M is as fast as Q5_0 (a tie) and smaller" in in_speed.reason
    ladder = (level("Q5_0", 5, 12, 0.010), level("Q4_K_M", 4.2, 15, 0.012))
    in_kld = decided(Wishes(min_tps=1), ladder, [tie("Q5_0", "Q4_K_M", "kld_mean")])
    assert in_kld.label == "Q4_K_M"
    assert "Q4_K_M is as near to the reference as Q5_0 (a tie) and faster" in in_kld.reason
    both = [tie("Q5_0", "Q4_K_M", "kld_mean"), tie("Q5_0", "Q4_K_M", "tg128")]
    assert decided(Wishes(min_tps=1), ladder, both).label == "Q5_0"


MISSES = {
    "no level reaches 20 tok/s; the fastest is Q4_K_M with 14.2 tok/s": Wishes(min_tps=20),
    "no level takes at most 1.863 GiB; the smallest is Q2_K with a file of 2.608 GiB": Wishes(
        memory_bytes=2 * GB
    ),
    "of the levels that have a mean KLD of at most 0.001, none reaches 10 tok/s; the fastest is "
    "Q8_0 with 9 tok/s": Wishes(max_kld=0.001, min_tps=10),
    "of the levels that take at most 3.725 GiB, none has a mean KLD of at most 0.02; the nearest "
    "to the reference is Q4_0 with a mean KLD of 0.04": Wishes(max_kld=0.02, memory_bytes=4 * GB),
}


@pytest.mark.parametrize(("reason", "wishes"), MISSES.items(), ids=range(len(MISSES)))
def test_where_nothing_fulfils_the_nearest_miss_is_named(reason: str, wishes: Wishes) -> None:
    verdict = decided(wishes)
    assert (verdict.label, verdict.command, verdict.reason) == ("", "", reason)
    assert verdict.front


def test_what_was_not_measured_fulfils_no_wish() -> None:
    unread = [level("Q8_0", 8, 9), level("Q4_0", 4, 13)]
    assert decided(Wishes(max_kld=1), unread).reason == (
        "no level is known to have a mean KLD of at most 1: its quality was not measured"
    )
    untimed = [level("Q8_0", 8, None, 0.0), level("Q4_0", 4, None, 0.1)]
    assert decided(Wishes(min_tps=1), untimed).reason == (
        "no level is known to reach 1 tok/s: its decode speed was not measured"
    )
    assert decided(Wishes(min_tps=1), [level("Q8_0", 8, 9, problem="does not fit")]).reason == (
        "no level could be measured"
    )


def test_a_wish_that_can_be_judged_is_where_the_rest_is_missing() -> None:
    untimed = [level("Q8_0", 8, None, 0.0), level("Q4_0", 4, None, 0.1)]
    smallest = decided(Wishes(max_kld=0.2), untimed)
    assert (smallest.label, "no decode speed was measured" in smallest.reason) == ("Q4_0", True)
    unread = [level("Q8_0", 8, 9), level("Q4_0", 4, 13)]
    most_bits = decided(Wishes(min_tps=5), unread)
    assert (most_bits.label, "no quality was measured" in most_bits.reason) == ("Q8_0", True)


def test_memory_is_what_the_devices_gave_else_the_files_size() -> None:
    taken = (DeviceBytes("CUDA0", 3 * GB, GB, 1), DeviceBytes("CPU", 0, 0, 2))
    assert memory_bytes(LevelResult("a", "", 4 * GB, 4, devices=taken)) == 4 * GB + 3
    assert memory_bytes(LevelResult("a", "", 4 * GB, 4)) == 4 * GB
