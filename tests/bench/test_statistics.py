"""Figures by llama-perplexity's formulas, and ties that are called so as often as promised."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.bench import bootstrap
from fwlocal.bench.measured import ChunkScores
from fwlocal.bench.result import Difference, Quality, Speed, SpeedTest, Value
from fwlocal.bench.statistics import (
    differences,
    is_reached,
    kld_error,
    quality_of,
    se_reached,
)

PP, TG = SpeedTest(512, 0), SpeedTest(0, 128)
Array = npt.NDArray[np.float64]


def chunk(kld: Sequence[float] | Array, nan: Sequence[int] = (), **columns: object) -> ChunkScores:
    """A chunk with this divergence; the rest follows from it, or is named."""
    of = np.asarray(kld, dtype=np.float32)
    is_nan = np.zeros(len(of), dtype=bool)
    is_nan[list(nan)] = True
    made = ChunkScores(
        nll=2 + of,
        reference_nll=np.full_like(of, 2.0),
        kld=of,
        dp=-of,
        same_top=of < 0.05,
        is_nan=is_nan,
    )
    return replace(made, **columns)  # type: ignore[arg-type]


def chunks(seed: int, n: int = 12, length: int = 32, scale: float = 0.02) -> list[ChunkScores]:
    """Hard and easy chunks, with columns that hang together as those of a model do."""
    rng = np.random.default_rng(seed)
    made = []
    for hardness in rng.gamma(2, 0.5, n):
        kld = rng.exponential(scale * hardness, length)
        reference = rng.gamma(2, hardness, length)
        made.append(
            chunk(
                kld,
                nll=(reference + rng.normal(0, 0.1, length)).astype(np.float32),
                reference_nll=reference.astype(np.float32),
                dp=rng.normal(-0.001, 0.02, length).astype(np.float32),
                same_top=rng.random(length) < 0.93,
            )
        )
    return made


def llama_perplexity(scores: Sequence[ChunkScores]) -> dict[str, tuple[float, float | None]]:
    """Sums, means and errors as kl_divergence() adds them up, position by position."""
    sums = dict.fromkeys(("x", "x2", "b", "b2", "xb", "k", "k2", "p", "p2", "p4", "top"), 0.0)
    for one in scores:
        columns = one.nll, one.reference_nll, one.kld, one.dp, one.same_top
        for x, b, k, p, top in zip(*(column.tolist() for column in columns), strict=True):
            for name, value in zip(
                sums, (x, x * x, b, b * b, x * b, k, k * k, p, p**2, p**4, top), strict=True
            ):
                sums[name] += value
    n = sum(len(one.nll) for one in scores)

    def mean(total: str, squares: str) -> tuple[float, float]:
        f = sums[total] / n
        return f, math.sqrt((sums[squares] / n - f * f) / (n - 1))

    log, log_base = mean("x", "x2"), mean("b", "b2")
    covariance = (sums["xb"] / n - log[0] * log_base[0]) / (n - 1)
    ratio = math.exp(log[0] - log_base[0])
    ratio_se = ratio * math.sqrt(log[1] ** 2 + log_base[1] ** 2 - 2 * covariance)
    mse = mean("p2", "p4")
    top = sums["top"] / n
    values = sorted(float(k) for one in scores for k in one.kld)

    def percentile(fraction: float) -> float:
        p = fraction * (n - 1)
        i = int(p)
        return (1 - (p - i)) * values[i] + (p - i) * values[min(i + 1, n - 1)]

    return {
        "ppl": (math.exp(log[0]), math.exp(log[0]) * log[1]),
        "ppl_ratio": (ratio, ratio_se),
        "kld_mean": mean("k", "k2"),
        "kld_median": (percentile(0.5), None),
        "kld_95": (percentile(0.95), None),
        "kld_99": (percentile(0.99), None),
        "kld_99_9": (percentile(0.999), None),
        "kld_max": (values[-1], None),
        "top1": (top, math.sqrt(top * (1 - top) / (n - 1))),
        "dp_mean": mean("p", "p2"),
        "dp_rms": (math.sqrt(mse[0]), 0.5 / math.sqrt(mse[0]) * mse[1]),
    }


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 5), length=st.integers(12, 40))
def test_figures_and_errors_are_llama_perplexitys(seed: int, n: int, length: int) -> None:
    scores = chunks(seed, n, length)
    found = quality_of(scores, n_resamples=20)
    for name, (value, se) in llama_perplexity(scores).items():
        ours: Value = getattr(found, name)
        assert ours.value == pytest.approx(value, rel=1e-9), name
        if se is not None:
            assert ours.se == pytest.approx(se, rel=1e-6), name


def test_the_reference_beside_itself_is_at_distance_nothing() -> None:
    same = [chunk(np.zeros(20))] * 3
    found = quality_of(same)
    assert found.ppl.value == pytest.approx(math.exp(2))
    assert found.ppl_ratio == Value(1.0, 0.0)
    assert found.kld_mean == found.kld_median == found.kld_99_9 == Value(0.0, 0.0)
    assert found.top1 == Value(1.0, 0.0)
    assert found.dp_rms == Value(0.0, 0.0)


def test_positions_without_numbers_are_counted_and_are_in_nothing_else() -> None:
    clean = [chunk([0.1, 0.2] * 10), chunk([0.3] * 20)]
    dirty = [
        chunk([*[0.1, 0.2] * 10, 0.0], nan=[20]),
        chunk([*[0.3] * 20, math.inf]),
        chunk([0.0] * 5, nan=range(5)),
    ]
    found = quality_of(dirty)
    assert (found.n_nan, found.n_tokens, found.n_chunks) == (7, 40, 3)
    assert found.nll_by_chunk[:2] == pytest.approx((2.15, 2.3))
    assert math.isnan(found.kld_by_chunk[2])
    for name in ("ppl", "kld_mean", "kld_99", "top1", "dp_rms"):
        assert getattr(found, name) == getattr(quality_of(clean), name)


@pytest.mark.parametrize("scores", [[], [chunk([])], [chunk([0.0] * 30, nan=range(30))] * 2])
def test_nothing_gives_no_numbers(scores: list[ChunkScores]) -> None:
    found = quality_of(scores)
    assert found.n_tokens == 0
    values = [value for value in vars(found).values() if isinstance(value, Value)]
    assert len(values) == 11
    assert all(math.isnan(value.value) and value.se is None for value in values)


def test_a_few_positions_have_no_error_and_one_chunk_none_of_percentiles() -> None:
    few = quality_of([chunk([0.1] * 5), chunk([0.2] * 5)])
    assert (few.kld_mean.se, few.top1.se, few.dp_rms.se, few.kld_95.se) == (None,) * 4
    one = quality_of([chunk(np.linspace(0, 1, 50))])
    assert one.kld_mean.se is not None
    assert (one.kld_median.se, one.kld_99.se, one.kld_max.se) == (None, None, None)


def test_errors_of_percentiles_are_what_other_texts_would_show() -> None:
    texts = [quality_of(chunks(seed, 24, 24), n_resamples=100) for seed in range(100)]
    for name in ("kld_median", "kld_95", "kld_99"):
        values = [getattr(found, name) for found in texts]
        spread = np.std([value.value for value in values])
        assert np.mean([value.se for value in values]) == pytest.approx(spread, rel=0.25), name


def test_a_percentile_of_a_resample_is_that_of_its_positions() -> None:
    """Counting order statistics is the same as laying the positions out."""
    rng = np.random.default_rng(1)
    values = rng.random(60)
    chunk_of = np.repeat(np.arange(6), [3, 20, 7, 10, 15, 5])
    fractions = (0.5, 0.95, 0.999)
    (counts,) = bootstrap.draws(6, 50, 6, [3])
    laid_out = [np.quantile(np.repeat(values, row[chunk_of]), fractions) for row in counts]
    expected = np.std(laid_out, axis=0, ddof=1)
    assert bootstrap.quantile_errors(values, chunk_of, fractions, 50, [3]) == pytest.approx(
        expected.tolist()
    )


def test_a_seed_decides() -> None:
    scores = chunks(1)
    assert quality_of(scores, seed=3) == quality_of(scores, seed=3) != quality_of(scores, seed=4)


def test_resamples_come_in_blocks_of_bounded_size() -> None:
    blocks = list(bootstrap.draws(10, 500, 1 << 20, [1]))
    assert {len(block) for block in blocks} == {2}
    assert sum(map(len, blocks)) == 500
    assert all((block.sum(axis=1) == 10).all() for block in blocks)


def test_200_chunks_take_no_time() -> None:
    scores = chunks(1, n=200, length=255)
    started = time.process_time()
    found = quality_of(scores)
    differences(["a", "b"], {"a": scores, "b": scores}, {})
    assert time.process_time() - started < 3  # 0.15 s on a laptop
    assert found.n_tokens == 51_000


def test_students_t_is_the_tables() -> None:
    for df, t in ((1, 12.706), (4, 2.776), (9, 2.262), (10, 2.228), (29, 2.045), (1000, 1.962)):
        assert bootstrap.student(df) == pytest.approx(t, abs=0.0015)


# -- differences ---------------------------------------------------------------------------------


def by_measure(found: Sequence[Difference]) -> dict[str, Difference]:
    return {difference.measure: difference for difference in found}


def test_two_copies_of_one_file_tie_under_every_seed() -> None:
    scores = chunks(5)
    for seed in range(100):
        found = differences(["a", "b"], {"a": scores, "b": list(scores)}, {}, seed, 200)
        assert [d.measure for d in found] == ["kld_mean", "ppl", "top1"]
        assert all(d.is_tie and d.value == 0 for d in found)


def test_two_copies_tie_also_where_arithmetic_differs_in_the_last_digits() -> None:
    scores = chunks(5)
    other = [
        replace(one, kld=one.kld + np.float32(1e-8), nll=one.nll * np.float32(1 + 1e-7))
        for one in scores
    ]
    for seed in range(100):
        found = differences(["a", "b"], {"a": scores, "b": other}, {}, seed, 200)
        assert all(d.is_tie for d in found)


def test_q8_0_and_q4_0_never_tie() -> None:
    near, far = chunks(5, scale=0.0005), chunks(5, scale=0.05)
    far = [replace(one, nll=one.nll + one.kld) for one in far]
    for seed in range(100):
        found = by_measure(differences(["Q8", "Q4"], {"Q8": near, "Q4": far}, {}, seed, 200))
        assert not found["kld_mean"].is_tie
        assert not found["ppl"].is_tie
        assert found["kld_mean"].low > 0


@pytest.mark.parametrize("n", [4, 5, 12])
def test_levels_that_are_truly_alike_tie_in_95_of_100_texts(n: int) -> None:
    ties = []
    for seed in range(200):
        levels = {"a": chunks(seed, n, 8), "b": chunks(seed + 10**6, n, 8)}
        ties.append(differences(["a", "b"], levels, {}, 0, 200)[0].is_tie)
    assert 0.9 <= np.mean(ties) <= 0.99


def test_a_difference_that_is_there_is_found_by_pairing() -> None:
    """2 % more everywhere: far less than chunks differ among each other."""
    scores = chunks(7)
    more = [replace(one, kld=one.kld * np.float32(1.02)) for one in scores]
    found = by_measure(differences(["a", "b"], {"a": scores, "b": more}, {}))
    assert not found["kld_mean"].is_tie
    assert found["top1"].is_tie
    assert found["kld_mean"].low < found["kld_mean"].value < found["kld_mean"].high


def test_only_positions_and_chunks_of_both_are_compared() -> None:
    a = [chunk([0.1, 9.0]), *[chunk([0.1, 0.1])] * 3, chunk([9.0, 9.0])]
    b = [chunk([0.2, 0.0], nan=[1]), *[chunk([0.2, 0.2])] * 3]
    found = by_measure(differences(["a", "b"], {"a": a, "b": b}, {}))
    assert list(found) == [
        "kld_mean",
        "top1",
    ]  # perplexities of other chunks stand beside each other
    assert found["kld_mean"].value == pytest.approx(0.1)
    assert found["kld_mean"].low == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_chunks_are_no_base_for_a_difference(n: int) -> None:
    few = {"a": chunks(1, n), "b": chunks(2, n)}
    assert differences(["a", "b"], few, {}) == ()
    assert differences(["a", "b"], {"a": chunks(1)}, {}) == ()


def reference(beside: Sequence[ChunkScores]) -> list[ChunkScores]:
    """Its own scores over the same chunks."""
    return [chunk(np.zeros(len(one.kld)), nll=one.reference_nll) for one in beside]


@pytest.mark.parametrize("n", [1, 2, 4, 12])
def test_beside_the_reference_only_what_arithmetic_explains_is_a_tie(n: int) -> None:
    """By definition it is at a distance of 0: an interval that holds that says nothing."""
    far = chunks(3, n)
    far[0] = replace(far[0], kld=far[0].kld * np.float32(50))  # as wide as can be
    pair = {"ref": reference(far), "far": far}
    for labels, sign in ((["ref", "far"], 1), (["far", "ref"], -1)):
        found = by_measure(differences(labels, pair, {}))
        assert not found["kld_mean"].is_tie
        assert not found["top1"].is_tie
        assert sign * found["kld_mean"].value > 0 > sign * found["top1"].value
        assert all(d.low <= d.value <= d.high for d in found.values())
        assert ("ppl" in found) == (n >= 4)

    noisy = [replace(one, kld=one.kld + np.float32(1e-8)) for one in reference(far)]
    copies = {"ref": reference(far), "copy": reference(far), "noisy": noisy}
    found_all = differences(list(copies), copies, {})
    assert {d.b for d in found_all} == {"copy", "noisy"}
    assert all(d.is_tie for d in found_all)


def test_a_level_without_scores_is_stepped_over() -> None:
    scores = {"a": chunks(1), "b": [], "c": chunks(2)}
    assert {(d.a, d.b) for d in differences(["a", "b", "c"], scores, {})} == {("a", "c")}


def speeds(*tps: float, test: SpeedTest = TG) -> tuple[Speed, ...]:
    return (Speed(test, tps),)


def test_rounds_are_paired_so_that_a_warming_machine_tells_nothing() -> None:
    warming = np.array([1.0, 0.9, 0.8, 0.7, 0.6])
    found = differences(
        ["a", "b"], {}, {"a": speeds(*(50 * warming)), "b": speeds(*(55 * warming))}
    )
    assert [(d.a, d.b, d.measure) for d in found] == [("a", "b", "tg128")]
    assert found[0].value == pytest.approx(0.1)
    assert (found[0].low, found[0].high) == pytest.approx((0.09, 0.11))


@pytest.mark.parametrize("rounds", [2, 3, 5, 10])
def test_copies_tie_in_speed_in_95_of_100_runs(rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    ties = []
    for _ in range(400):
        a, b = 40 * np.exp(rng.normal(0, 0.03, (2, rounds)))
        found = differences(["a", "b"], {}, {"a": speeds(*a), "b": speeds(*b)}, 0, 200)
        ties.append(found[0].is_tie)
    assert np.mean(ties) >= 0.93


def test_a_single_round_tells_nothing() -> None:
    """Neither that two are alike nor that they are not."""
    assert differences(["a", "b"], {}, {"a": speeds(50), "b": speeds(50)}) == ()
    assert differences(["a", "b"], {}, {"a": speeds(50), "b": speeds(65, 66)}) == ()


def test_a_difference_of_less_than_one_per_cent_is_none() -> None:
    (found,) = differences(["a", "b"], {}, {"a": speeds(*[50] * 9), "b": speeds(*[50.4] * 9)})
    assert found.is_tie


def test_a_test_that_a_level_was_not_put_to_steps_over_it() -> None:
    deep = SpeedTest(0, 128, 4096)
    given_speeds = {
        "a": (*speeds(9, 9, 9), *speeds(5, 5, 5, test=deep)),
        "b": speeds(20, 20, 20),
        "c": (*speeds(40, 40, 40), *speeds(8, 8, 8, test=deep)),
    }
    found = differences(["a", "b", "c"], {}, given_speeds)
    pairs = {(d.measure, d.a, d.b) for d in found}
    assert pairs == {("tg128", "a", "b"), ("tg128", "b", "c"), ("tg128 @ d4096", "a", "c")}


# -- until ---------------------------------------------------------------------------------------


def test_until_looks_at_chunks_and_wants_four() -> None:
    alike = [chunk([0.0, 0.4] * 8)] * 3
    assert kld_error(alike) is None
    assert not se_reached(alike, 1.0)
    assert se_reached([*alike, alike[0]], 0.0)  # every chunk has the same mean
    apart = [chunk([mean] * 16) for mean in (0.1, 0.2, 0.3, 0.4)]
    expected = float(np.std([0.1, 0.2, 0.3, 0.4], ddof=1)) / 2
    assert kld_error(apart) == pytest.approx(expected)
    assert se_reached(apart, expected * 1.001)
    assert not se_reached(apart, expected * 0.999)
    means = quality_of(apart).kld_by_chunk  # what a result keeps of them
    assert [is_reached(means, expected * by) for by in (1.001, 0.999)] == [True, False]


def test_a_level_without_any_numbers_does_not_keep_the_others_waiting() -> None:
    broken = chunk([0.0] * 4, nan=range(4))
    assert not se_reached([broken] * 3, 0.1)
    assert se_reached([broken] * 4, 0.1)
    assert not se_reached([*[broken] * 4, chunk([0.1] * 4)], 0.1)
    assert isinstance(quality_of([broken] * 4), Quality)
