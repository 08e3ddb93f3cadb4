"""Two runs side by side: what is a difference, what is noise, and what else was not the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fwlocal.bench.comparison import Comparison, Row, compare
from fwlocal.bench.result import (
    Answers,
    BenchResult,
    DeviceBytes,
    Energy,
    LevelResult,
    Machine,
    Quality,
    Settings,
    Speed,
    SpeedTest,
    TextFacts,
    Value,
)

PP, TG = SpeedTest(512, 0), SpeedTest(0, 128)
TEXT = TextFacts("moby-dick.txt", "ab" * 32, 20_000)
MACHINE = Machine("a CPU", 4, 16 * 10**9, (), "Linux x86_64", 2e10)
SETTINGS = Settings(512, 512, 512, "f16", "auto", 3, 16, tests=(PP, TG))


def quality(nll: Sequence[float], kld: Sequence[float]) -> Quality:
    """With these means of its chunks."""
    ppl, mean = math.exp(float(np.mean(nll))), float(np.mean(kld))
    return Quality(
        n_chunks=len(nll),
        n_tokens=255 * len(nll),
        n_nan=0,
        ppl=Value(ppl, ppl * 0.02),
        ppl_ratio=Value(1.01, 0.002),
        kld_mean=Value(mean, mean * 0.02),
        kld_median=Value(mean / 2),
        kld_95=Value(mean * 3, mean * 0.1),
        kld_99=Value(mean * 5, mean * 0.3),
        kld_99_9=Value(mean * 9, mean),
        kld_max=Value(mean * 50),
        top1=Value(0.9, 0.005),
        dp_mean=Value(-0.001, 0.0004),
        dp_rms=Value(0.03, 0.0005),
        nll_by_chunk=tuple(nll),
        kld_by_chunk=tuple(kld),
    )


RNG = np.random.default_rng(1)
NLL = tuple(RNG.normal(3, 0.4, 16).tolist())
KLD = tuple(RNG.gamma(4, 0.005, 16).tolist())


def level(label: str = "Q4_0", tps: Sequence[float] = (20, 20.4, 19.8)) -> LevelResult:
    """A level with everything measured."""
    return LevelResult(
        label,
        f"/m/{label}.gguf",
        4 * 10**9,
        4.5,
        sha256="cd" * 32,
        n_gpu_layers=0,
        n_layers=33,
        devices=(DeviceBytes("CPU", 4 * 10**9, 10**8, 10**8),),
        load_warm_s=1.0,
        load_cold_s=4.0,
        speeds=(Speed(PP, (100, 101, 102)), Speed(TG, tuple(tps))),
        energy=Energy(0.1, 2.0, "RAPL package-0"),
        quality=quality(NLL, KLD),
        answers=Answers((None, None, 3, None)),
    )


def run(*levels: LevelResult, **changes: object) -> BenchResult:
    whole = BenchResult(
        "m", "2026-01-01T00:00:00Z", "1.0", "b1", MACHINE, SETTINGS, "Q8_0", levels, text=TEXT
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def rows(comparison: Comparison, label: str = "Q4_0") -> dict[str, Row]:
    return {row.measure: row for row in comparison.rows if row.label == label}


def test_a_run_beside_itself_is_noise_throughout() -> None:
    both = compare(run(level()), run(level()))
    assert both.contexts == ()
    assert (both.only_a, both.only_b) == ((), ())
    assert all(row.is_noise and row.difference == 0 for row in both.rows)
    assert list(rows(both)) == [
        *("pp512", "tg128", "load_warm", "load_cold", "prefill_energy", "decode_energy"),
        *("ppl", "ppl_ratio", "kld_mean", "kld_95", "kld_99", "kld_99_9"),
        *("top1", "dp_mean", "dp_rms", "same_answers"),
    ]


def test_levels_go_by_their_labels() -> None:
    both = compare(
        run(level("F16"), level("Q4_0")), run(level("Q4_0"), level("Q2_K")), "old", "new"
    )
    assert {row.label for row in both.rows} == {"Q4_0"}
    assert (both.a_name, both.b_name, both.only_a, both.only_b) == (
        "old",
        "new",
        ("F16",),
        ("Q2_K",),
    )


def test_distances_from_different_references_are_not_compared() -> None:
    """Perplexity needs none; a level is not better for being held against a worse one."""
    own, other = level("F16"), replace(level("Q8_0"), sha256="ef" * 32)
    of_own = run(replace(own, is_reference=True), level())
    of_other = run(replace(other, is_reference=True), level())

    found = rows(compare(of_own, of_other))
    assert "ppl" in found
    assert "tg128" in found
    assert not {"ppl_ratio", "kld_mean", "kld_99", "top1", "dp_rms", "same_answers"} & found.keys()


def test_a_reference_is_known_by_its_file_too() -> None:
    named = (replace(level(label), is_reference=True) for label in ("F16", "whales-F16"))
    a, b = (run(reference, level()) for reference in named)
    assert "kld_mean" in rows(compare(a, b))


# -- speed ---------------------------------------------------------------------------------------


def speed_row(a: Sequence[float], b: Sequence[float]) -> Row:
    return rows(compare(run(level(tps=a)), run(level(tps=b))))["tg128"]


def test_a_speed_is_a_difference_where_rounds_hardly_vary() -> None:
    row = speed_row((20, 20.4, 19.8), (24, 24.3, 23.9))
    assert (row.a, row.b, row.unit) == (20, 24, "tok/s")
    assert row.difference == 4
    assert 1 < row.low < 4 < row.high < 8
    assert not row.is_noise


def test_and_noise_where_they_vary_as_much() -> None:
    assert speed_row((20, 26, 17), (24, 19, 29)).is_noise
    assert speed_row([20] * 9, [20.15] * 9).is_noise  # less than 1 % is none


def test_a_single_round_tells_little() -> None:
    assert speed_row((20,), (23, 23, 23)).is_noise
    assert speed_row((20,), (23, 23, 23)).is_assumed
    assert not speed_row((20, 20), (23, 23, 23)).is_assumed
    assert not speed_row((20,), (30,)).is_noise


def test_two_runs_alike_are_noise_in_95_of_100() -> None:
    rng = np.random.default_rng(3)
    noise = []
    for _ in range(60):
        a, b = 20 * np.exp(rng.normal(0, 0.03, (2, 5)))
        noise.append(speed_row(a.tolist(), b.tolist()).is_noise)
    assert np.mean(noise) >= 0.93


def test_single_times_and_energies_are_given_a_fifth() -> None:
    a = level()
    near = replace(a, load_warm_s=1.15, energy=Energy(None, 2.3, "RAPL package-0"))
    far = replace(a, load_warm_s=1.5, load_cold_s=None, energy=None)
    found = rows(compare(run(a), run(near)))
    assert found["load_warm"].is_noise
    assert found["decode_energy"].is_noise
    assert "prefill_energy" not in found
    found = rows(compare(run(a), run(far)))
    assert not found["load_warm"].is_noise
    assert (found["load_warm"].low, found["load_warm"].high) == pytest.approx((0.2, 0.8))
    assert not {"load_cold", "decode_energy"} & set(found)


def test_bytes_are_facts_and_listed_where_they_differ() -> None:
    other = replace(level(), size_bytes=4 * 10**9 + 1, devices=(DeviceBytes("CUDA0", 1, 1, 1),))
    found = rows(compare(run(level()), run(other)))
    assert found["size"] == Row("Q4_0", "size", 4e9, 4e9 + 1, 1, 1, 1, False, "B")
    assert not found["memory"].is_noise
    assert found["memory"].b == 3


# -- quality -------------------------------------------------------------------------------------


def shifted(nll: float = 0.0, factor: float = 1.0) -> LevelResult:
    """The same level, every chunk a little worse."""
    worse = quality([x + nll for x in NLL], [k * factor for k in KLD])
    return replace(level(), quality=worse)


def test_chunks_of_the_same_text_are_paired() -> None:
    """Far less than the standard errors, but in every chunk."""
    found = rows(compare(run(level()), run(shifted(0.004, 1.03))))
    for measure in ("ppl", "kld_mean"):
        row = found[measure]
        assert not row.is_noise, measure
        assert row.low <= row.difference <= row.high
    ppl = found["ppl"]
    assert ppl.low == pytest.approx(ppl.a * 0.004, rel=0.02)
    assert ppl.high - ppl.low < ppl.a * 1e-4


@pytest.mark.parametrize(
    "other",
    [
        {"text": replace(TEXT, sha256="ef" * 32)},
        {"text": None},
        {"settings": replace(SETTINGS, n_ctx=1024)},
    ],
    ids=["another text", "no text", "another context"],
)
def test_chunks_of_another_text_are_not(other: dict[str, object]) -> None:
    found = rows(compare(run(level()), run(shifted(0.004, 1.03), **other)))
    assert found["ppl"].is_noise
    assert found["kld_mean"].is_noise
    assert not rows(compare(run(level()), run(shifted(1.5, 3), **other)))["ppl"].is_noise


def test_nor_of_more_chunks() -> None:
    longer = replace(level(), quality=quality((*NLL, 3.0), (*KLD, 0.02)))
    found = rows(compare(run(level()), run(longer)))
    assert found["ppl"].is_noise
    over_chunks = np.std(NLL, ddof=1) / 4 * found["ppl"].a
    assert found["ppl"].high - found["ppl"].difference > 1.96 * over_chunks


def test_without_means_of_chunks_the_errors_of_both_decide() -> None:
    bare = replace(level(), quality=replace(quality(NLL, KLD), nll_by_chunk=(), kld_by_chunk=()))
    found = rows(compare(run(bare), run(bare)))["ppl"]
    assert found.high == pytest.approx(1.96 * math.sqrt(2) * 0.02 * found.a, rel=1e-3)


def test_chunks_and_figures_without_numbers_are_left_out() -> None:
    holed = quality(NLL, KLD)
    holed = replace(
        holed,
        kld_by_chunk=(math.nan, *KLD[1:]),
        nll_by_chunk=(math.nan, *NLL[1:]),
        top1=Value(math.nan),
    )
    found = rows(compare(run(level()), run(replace(level(), quality=holed))))
    assert found["ppl"].is_noise
    assert "top1" not in found


def test_answers_of_a_few_prompts_tell_little() -> None:
    def answers(n: int, same: int) -> LevelResult:
        return replace(level(), answers=Answers((None,) * same + (0,) * (n - same)))

    few = rows(compare(run(answers(4, 4)), run(answers(4, 2))))["same_answers"]
    assert (few.a, few.b, few.unit, few.is_noise) == (1.0, 0.5, "share", True)
    many = rows(compare(run(answers(100, 95)), run(answers(100, 70))))["same_answers"]
    assert not many.is_noise
    assert "same_answers" not in rows(compare(run(answers(0, 0)), run(answers(4, 4))))


# -- the runs themselves -------------------------------------------------------------------------


def test_what_differs_between_the_runs_is_said() -> None:
    gpu = Machine("another CPU", 8, 64 * 10**9, ("a GPU", "a GPU"), "Linux x86_64", 9e10)
    settings = replace(SETTINGS, kv_type="q8_0", until=0.002, tests=(TG,))
    other = run(
        replace(level(), sha256="12" * 32, n_gpu_layers=33),
        fwlocal="1.1",
        llama_cpp="b2",
        machine=gpu,
        settings=settings,
        text=replace(TEXT, sha256="ef" * 32),
    )
    assert compare(run(level()), other, "old", "new").contexts == (
        "fwlocal: 1.0 in old, 1.1 in new",
        "llama.cpp: b1 in old, b2 in new",
        "CPU: a CPU in old, another CPU in new",
        "threads: 4 in old, 8 in new",
        "RAM: 16.0 GB in old, 64.0 GB in new",
        "GPUs: none in old, a GPU, a GPU in new",
        "KV cache: f16 in old, q8_0 in new",
        "speed tests: pp512, tg128 in old, tg128 in new",
        "text: moby-dick.txt (SHA-256 abababababab) in old, "
        "moby-dick.txt (SHA-256 efefefefefef) in new",
        "until: none in old, 0.002 in new",
        "Q4_0: not the same file (SHA-256 cdcdcdcdcdcd in old, 121212121212 in new)",
        "Q4_0: 0 of 33 layers on GPUs in old, 33 of 33 layers on GPUs in new",
    )


def test_a_level_that_did_not_fit_is_named() -> None:
    missing = LevelResult("Q4_0", "/m/Q4_0.gguf", 4 * 10**9, 4.5, problem="does not fit")
    both = compare(run(level()), run(missing))
    assert both.rows == ()
    assert both.contexts == ("Q4_0: nothing measured in B (does not fit)",)
    later = compare(run(level()), run(replace(level(), problem="lost")))
    assert later.rows
    assert later.contexts == ("Q4_0: failed later in B (lost)",)


def test_a_seed_decides() -> None:
    a, b = run(level()), run(shifted(0.01, 1.2))
    assert compare(a, b, seed=1) == compare(a, b, seed=1) != compare(a, b, seed=2)
