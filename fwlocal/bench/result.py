"""What a benchmark found, as data: the levels, their measures, and what they were measured on.

Frozen and plain, so that the table, the plots, the files and a comparison of two runs read the same
thing. How it is measured, reckoned, written and shown is other modules'. ``SCHEMA`` is the number
of the form that ``fwlocal.bench.result_file`` writes; it changes when a reader must.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

SCHEMA = 1


@dataclass(frozen=True)
class SpeedTest:
    """One of llama-bench's tests: ``n_prompt`` tokens evaluated (pp) or ``n_gen`` generated (tg),
    behind ``n_depth`` that the KV cache holds already. One of the first two is 0."""

    n_prompt: int
    n_gen: int
    n_depth: int = 0

    @property
    def name(self) -> str:
        """As llama-bench prints it: "pp512", "tg128 @ d4096"."""
        kind = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{kind} @ d{self.n_depth}" if self.n_depth else kind


@dataclass(frozen=True)
class Speed:
    """A test's results in tok/s, one of each round, in their order."""

    test: SpeedTest
    tps: tuple[float, ...]

    @property
    def median(self) -> float:
        """tok/s."""
        return statistics.median(self.tps)

    @property
    def spread(self) -> tuple[float, float]:
        """The slowest and the fastest round, tok/s."""
        return min(self.tps), max(self.tps)


@dataclass(frozen=True)
class DeviceBytes:
    """What a level took of one device, in bytes."""

    device: str
    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        """All three."""
        return self.weights + self.kv + self.compute


@dataclass(frozen=True)
class Energy:
    """Joules for a token prefilled and for one decoded, by the counters called ``source``."""

    prefill_j: float | None
    decode_j: float | None
    source: str


@dataclass(frozen=True)
class Value:
    """A figure and its standard error; None where there is none."""

    value: float
    se: float | None = None


@dataclass(frozen=True)
class Quality:
    """How near a level is to the reference, over ``n_tokens`` positions of ``n_chunks`` chunks.

    ``ppl`` is the perplexity as llama-perplexity defines it; ``ppl_ratio`` that of the level over
    the reference's. ``kld_*`` are of the Kullback-Leibler divergence of each position, in nats;
    ``top1`` the share of positions where both find the same token likeliest; ``dp_*`` are of the
    change of the right token's probability, as a fraction. ``n_nan`` positions had logits that are
    no numbers, in the level or the reference, and are in no other figure. ``nll_by_chunk`` and
    ``kld_by_chunk`` are the means of each chunk.
    """

    n_chunks: int
    n_tokens: int
    n_nan: int
    ppl: Value
    ppl_ratio: Value
    kld_mean: Value
    kld_median: Value
    kld_95: Value
    kld_99: Value
    kld_99_9: Value
    kld_max: Value
    top1: Value
    dp_mean: Value
    dp_rms: Value
    nll_by_chunk: tuple[float, ...] = ()
    kld_by_chunk: tuple[float, ...] = ()


@dataclass(frozen=True)
class Answers:
    """Greedy answers beside the reference's: for each prompt the first token that differs, counted
    from 0; None where all are the same."""

    first_difference: tuple[int | None, ...]

    @property
    def n_identical(self) -> int:
        """Answers that are the same to the end."""
        return self.first_difference.count(None)


@dataclass(frozen=True)
class LevelResult:
    """One level, or file. Whatever was not measured is None or empty; ``problem`` says why a level
    has nothing at all, as where it does not fit. ``load_*_s`` are seconds until a context stands,
    the file not in memory (cold) and in memory (warm). ``peak_rss_bytes`` is of the whole process
    while this level's speed was measured. ``bandwidth_share`` is the decode speed as a share of
    what reading the weights at full memory bandwidth would allow."""

    label: str
    file: str
    size_bytes: int
    bits_per_weight: float
    sha256: str = ""
    is_reference: bool = False
    problem: str = ""
    n_gpu_layers: int = 0
    n_layers: int = 0
    devices: tuple[DeviceBytes, ...] = ()
    peak_rss_bytes: int | None = None
    load_cold_s: float | None = None
    load_warm_s: float | None = None
    speeds: tuple[Speed, ...] = ()
    bandwidth_share: float | None = None
    energy: Energy | None = None
    quality: Quality | None = None
    answers: Answers | None = None

    def speed(self, test: SpeedTest) -> Speed | None:
        """The results of one test, if it was run."""
        return next((speed for speed in self.speeds if speed.test == test), None)


@dataclass(frozen=True)
class Difference:
    """How two neighbouring levels differ in one measure ("kld_mean", "ppl", "pp512", "tg128", ...):
    ``b`` less ``a``, with the interval that 95 % of resamples lie in. A tie holds zero in it."""

    a: str
    b: str
    measure: str
    value: float
    low: float
    high: float

    @property
    def is_tie(self) -> bool:
        """Whether the data cannot tell which is larger."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Machine:
    """What it ran on: the CPU's name and threads used, RAM, GPUs by name, the system, and the
    memory's bandwidth in bytes per second as it was measured."""

    cpu: str
    n_threads: int
    ram_bytes: int
    gpus: tuple[str, ...] = ()
    system: str = ""
    bandwidth_bytes_per_s: float | None = None


@dataclass(frozen=True)
class Settings:
    """How it was measured. ``until`` is the standard error that ended it, or None."""

    n_ctx: int
    n_batch: int
    n_ubatch: int
    kv_type: str
    flash_attn: str
    repetitions: int
    chunks: int
    until: float | None = None
    tests: tuple[SpeedTest, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class TextFacts:
    """What was read for quality: its name, the SHA-256 of its bytes, tokens in all of it."""

    name: str
    sha256: str
    n_tokens: int


@dataclass(frozen=True)
class Verdict:
    """What follows: the labels on the Pareto front, and the level to take with the reason in a
    sentence and the command that runs it; "" where nothing fulfils what was asked."""

    front: tuple[str, ...] = ()
    label: str = ""
    reason: str = ""
    command: str = ""


@dataclass(frozen=True)
class BenchResult:
    """A whole run. ``created`` is ISO 8601 in UTC; ``reference`` a label, "" without quality."""

    model: str
    created: str
    fwlocal: str
    llama_cpp: str
    machine: Machine
    settings: Settings
    reference: str
    levels: tuple[LevelResult, ...]
    differences: tuple[Difference, ...] = ()
    text: TextFacts | None = None
    verdict: Verdict = field(default_factory=Verdict)
    schema: int = SCHEMA
