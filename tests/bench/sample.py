"""Results of made-up runs, for the tests of what is shown and written."""

from __future__ import annotations

from dataclasses import replace

from fwlocal.bench.result import (
    Answers,
    BenchResult,
    DeviceBytes,
    Difference,
    Energy,
    LevelResult,
    Machine,
    Quality,
    Settings,
    Speed,
    SpeedTest,
    TextFacts,
    Value,
    Verdict,
)

PP = SpeedTest(512, 0)
TG = SpeedTest(0, 128)
PP_DEEP = SpeedTest(512, 0, 4096)
TG_DEEP = SpeedTest(0, 128, 4096)
TESTS = (PP, TG, PP_DEEP, TG_DEEP)
LABELS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")


def quality(kld: float, ppl: float, **changed: object) -> Quality:
    """As of a level with this divergence and perplexity."""
    found = Quality(
        n_chunks=32,
        n_tokens=8160,
        n_nan=0,
        ppl=Value(ppl, 0.093),
        ppl_ratio=Value(ppl / 16.0, kld / 9),
        kld_mean=Value(kld, kld / 51),
        kld_median=Value(kld / 2, kld / 60),
        kld_95=Value(kld * 4, kld / 10),
        kld_99=Value(kld * 9, kld / 4),
        kld_99_9=Value(kld * 25, kld),
        kld_max=Value(kld * 60),
        top1=Value(1 - kld * 2, 0.0021),
        dp_mean=Value(-kld / 3, 0.0001),
        dp_rms=Value(kld * 1.6, 0.0008),
        nll_by_chunk=(2.7, 2.8, 2.7, 2.8),
        kld_by_chunk=(kld, kld, kld, kld),
    )
    return replace(found, **changed)  # type: ignore[arg-type]


def level(label: str, size_bytes: int, tps: float, kld: float, ppl: float) -> LevelResult:
    """A level of which everything was measured."""
    speeds = {PP: tps * 9, TG: tps, PP_DEEP: tps * 6, TG_DEEP: tps * 0.7}
    return LevelResult(
        label=label,
        file=f"/models/whale-{label}.gguf",
        size_bytes=size_bytes,
        bits_per_weight=size_bytes * 8 / 135e6,
        sha256=label.encode().hex().ljust(64, "0"),
        n_gpu_layers=31,
        n_layers=31,
        devices=(
            DeviceBytes("CUDA0", size_bytes, 90 << 20, 120 << 20),
            DeviceBytes("CPU", 30 << 20, 0, 1 << 20),
        ),
        peak_rss_bytes=size_bytes + (160 << 20),
        load_cold_s=1.34,
        load_warm_s=0.21,
        speeds=tuple(
            Speed(test, (rate * 0.99, rate, rate * 1.004)) for test, rate in speeds.items()
        ),
        bandwidth_share=0.61,
        energy=Energy(0.021, 0.34, "NVML"),
        quality=quality(kld, ppl),
        answers=Answers((None, None, 17, None)),
    )


MACHINE = Machine(
    cpu="AMD EPYC 7763",
    n_threads=8,
    ram_bytes=64 << 30,
    gpus=("NVIDIA GeForce RTX 4090",),
    system="Linux 6.1",
    bandwidth_bytes_per_s=41.2e9,
)
SETTINGS = Settings(
    n_ctx=512,
    n_batch=2048,
    n_ubatch=512,
    kv_type="f16",
    flash_attn="auto",
    repetitions=3,
    chunks=32,
    until=0.002,
    tests=TESTS,
)
ZERO = Value(0.0, 0.0)
REFERENCE = replace(
    level("Q8_0", 145 << 20, 60.2, 0.0, 16.0),
    is_reference=True,
    quality=quality(
        0.0, 16.0, ppl_ratio=Value(1.0, 0.0), top1=Value(1.0, 0.0), dp_mean=ZERO, dp_rms=ZERO
    ),
    answers=Answers((None, None, None, None)),
)
LEVELS = (
    REFERENCE,
    level("Q6_K", 110 << 20, 78.9, 0.00213, 16.03),
    level("Q5_K_M", 98 << 20, 79.1, 0.00215, 16.11),
    level("Q4_K_M", 88 << 20, 101.5, 0.0213, 16.42),
    level("Q4_0", 87 << 20, 99.3, 0.0451, 17.21),
)
FULL = BenchResult(
    model="whale-135m",
    created="2026-01-02T03:04:05Z",
    fwlocal="0.7.0",
    llama_cpp="0.3.36",
    machine=MACHINE,
    settings=SETTINGS,
    reference="Q8_0",
    levels=LEVELS,
    differences=(
        Difference("Q8_0", "Q6_K", "kld_mean", 0.00213, 0.0020, 0.0022),
        Difference("Q6_K", "Q5_K_M", "kld_mean", 0.00002, -0.0001, 0.0001),
        Difference("Q5_K_M", "Q4_K_M", "kld_mean", 0.019, 0.017, 0.021),
        Difference("Q6_K", "Q5_K_M", "tg128", 0.003, -0.01, 0.02),
        Difference("Q4_K_M", "Q4_0", "tg128", -0.02, -0.03, 0.001),
    ),
    text=TextFacts("moby-dick.txt", "ab" * 32, 95_123),
    verdict=Verdict(
        front=("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"),
        label="Q4_K_M",
        reason="Q4_K_M is the fastest level with a KLD of at most 0.03.",
        command="fwlocal run -m whale-135m:Q4_K_M",
    ),
)

PROBLEM = "does not fit: it needs 80.0 GiB, and 24.0 GiB are free on CUDA0"
WITH_PROBLEMS = replace(
    FULL,
    levels=(
        LevelResult("F32", "/models/whale-F32.gguf", 80 << 30, 32.0, problem=PROBLEM),
        *LEVELS[:2],
        replace(LEVELS[4], quality=quality(0.05, 17.2, n_nan=12)),
    ),
    verdict=Verdict(reason="no level reaches 200 tok/s; the fastest is Q4_0 with 99.3."),
)
WITHOUT_QUALITY = replace(
    FULL,
    reference="",
    levels=tuple(
        replace(one, quality=None, answers=None, is_reference=False) for one in FULL.levels
    ),
    differences=FULL.differences[3:],
    text=None,
    verdict=Verdict(front=("Q6_K", "Q4_K_M")),
)
WITHOUT_SPEED = replace(
    FULL,
    levels=tuple(
        replace(
            one,
            speeds=(),
            load_cold_s=None,
            load_warm_s=None,
            energy=None,
            bandwidth_share=None,
            devices=(),
            peak_rss_bytes=None,
            n_gpu_layers=0,
        )
        for one in FULL.levels
    ),
    differences=FULL.differences[:3],
    settings=replace(SETTINGS, tests=(), repetitions=0),
    verdict=Verdict(),
)
ONE_LEVEL = replace(FULL, levels=FULL.levels[:1], differences=(), verdict=Verdict(("Q8_0",)))
NOTHING = replace(
    FULL, levels=(), differences=(), reference="", text=None, verdict=Verdict(), model=""
)
ALL = (FULL, WITH_PROBLEMS, WITHOUT_QUALITY, WITHOUT_SPEED, ONE_LEVEL, NOTHING)
