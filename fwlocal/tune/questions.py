"""Which settings are tried on a machine, by what tests, and why some are not. Pure.

The order is that of the descent: the threads first, which decide most, the memory last, which needs
a load for every trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fwlocal.bench.result import SpeedTest
from fwlocal.offload import COPY_PART, OffloadPlan
from fwlocal.sizes import gib
from fwlocal.tune.system import MemorySystem

TEST_S = 2.0  # that a test of decoding is to take
LONG_S = 4.0  # ... and a prefill at most, where the model is fast enough for any
PATIENT_S = 16.0  # ... and the shortest that tells micro-batches apart
DEPTH_S = 30.0  # for filling the KV cache, which is done twice and not timed
N_PROMPT, N_LONG, N_DEPTH = 512, 2048, 2048
LEAST_PROMPT, LEAST_LONG, LEAST_GEN, MOST_GEN = 64, 256, 16, 128
MOST_THREAD_COUNTS = 5
UBATCHES = (128, 256, 512, 1024, 2048)
SETTINGS = (
    "n_threads",
    "n_threads_batch",
    "n_ubatch",
    "flash_attn",
    "kv_type",
    "mmap",
    "mlock",
    "numa",
    "huge_pages",
)


@dataclass(frozen=True)
class Cores:
    """How many there are to use: fast ones, all physical ones, all hardware threads."""

    performance: int
    physical: int
    logical: int


@dataclass(frozen=True)
class Sizes:
    """Tokens of the tests: of a prefill, a long one, an answer; and how many are cached before.
    ``is_slow``: the long one is as short as it is because of the model's speed."""

    n_prompt: int
    n_long: int
    n_gen: int
    n_depth: int
    is_slow: bool = False

    @property
    def prefill(self) -> SpeedTest:
        """As llama-bench's pp."""
        return SpeedTest(self.n_prompt, 0)

    @property
    def decode(self) -> SpeedTest:
        """As llama-bench's tg."""
        return SpeedTest(0, self.n_gen)

    @property
    def deep(self) -> tuple[SpeedTest, SpeedTest]:
        """Both, where attention has more to do."""
        return self.prefill, SpeedTest(0, self.n_gen, self.n_depth)

    @property
    def n_tokens(self) -> int:
        """That a context must hold for any of them."""
        return max(self.n_prompt, self.n_long, self.n_depth + self.n_gen)


@dataclass(frozen=True)
class Facts:
    """What decides the questions. ``plan`` and ``n_threads`` are the default's; ``weights_bytes``
    are those on the CPU; ``available_bytes`` are free in RAM."""

    cores: Cores
    plan: OffloadPlan
    n_threads: int
    sizes: Sizes
    weights_bytes: int
    available_bytes: int
    memory: MemorySystem = field(default_factory=MemorySystem)
    has_quantized_kv: bool = True


@dataclass(frozen=True)
class Candidate:
    """``changes`` of EngineOptions; ``slower`` is how many times the default's time a test may
    take, for the estimate alone."""

    label: str
    changes: Mapping[str, Any]
    slower: float = 1.0


@dataclass(frozen=True)
class Question:
    """One setting: its default in words, and what is tried in its place. ``by_load``: each trial
    loads the model. ``lossy``: it changes answers by more than rounding. ``why_none`` says why
    there is nothing to try."""

    setting: str
    default: str
    candidates: tuple[Candidate, ...] = ()
    tests: tuple[SpeedTest, ...] = ()
    by_load: bool = False
    lossy: bool = False
    why_none: str = ""


def sizes_for(prefill_tps: float, decode_tps: float, n_ctx_train: int) -> Sizes:
    """Tests that a model of such speeds, in tok/s, runs in seconds, within what it was trained
    on (0: not known)."""
    most = n_ctx_train or N_DEPTH + MOST_GEN
    n_gen = max(LEAST_GEN, min(MOST_GEN, int(decode_tps * TEST_S), most // 4))
    n_prompt = min(max(LEAST_PROMPT, _power(prefill_tps * LONG_S)), N_PROMPT, most // 2)
    wanted = _power(prefill_tps * LONG_S)
    if prefill_tps * PATIENT_S >= LEAST_LONG:
        wanted = max(wanted, LEAST_LONG)
    n_long = max(n_prompt, min(wanted, N_LONG, most - n_gen))
    n_depth = min(N_DEPTH, int(prefill_tps * DEPTH_S), most - n_gen)
    return Sizes(n_prompt, n_long, n_gen, max(0, n_depth), n_long < min(N_LONG, most - n_gen))


def questions(facts: Facts) -> tuple[Question, ...]:
    """All of them, in the order of SETTINGS."""
    makers = (_threads, _threads_batch, _ubatch, _flash, _kv_type, _mmap, _mlock, _numa, _huge)
    return tuple(make(facts) for make in makers)


def thread_counts(cores: Cores) -> tuple[int, ...]:
    """The numbers of threads that are worth a try, a handful at most: few are where memory is the
    bound, all hardware threads where waiting for it is."""
    counts = {1, cores.performance // 2, cores.performance, cores.physical, cores.logical}
    return tuple(sorted(counts - {0}))[-MOST_THREAD_COUNTS:]


def _threads(facts: Facts) -> Question:
    return _of_threads("n_threads", facts, facts.sizes.decode)


def _threads_batch(facts: Facts) -> Question:
    return _of_threads("n_threads_batch", facts, facts.sizes.prefill)


def _of_threads(setting: str, facts: Facts, test: SpeedTest) -> Question:
    default = facts.n_threads
    counts = [count for count in thread_counts(facts.cores) if count != default]
    return Question(
        setting,
        str(default),
        tuple(Candidate(str(n), {setting: n}, max(1.0, default / n)) for n in counts),
        (test,),
        why_none="" if counts else "one core",
    )


def _ubatch(facts: Facts) -> Question:
    default, n_long = facts.plan.n_ubatch, facts.sizes.n_long
    sizes = [size for size in UBATCHES if size != default and size <= n_long]
    return Question(
        "n_ubatch",
        str(default),
        tuple(
            Candidate(str(n), {"n_ubatch": n, "n_batch": max(n, facts.plan.n_batch)}) for n in sizes
        ),
        (SpeedTest(n_long, 0),),
        why_none="" if sizes else _why_no_ubatch(facts.sizes),
    )


def _why_no_ubatch(sizes: Sizes) -> str:
    if sizes.is_slow:
        return "a prompt long enough to tell others apart takes too long here"
    return "the model's context is too small for others"


def _flash(facts: Facts) -> Question:
    is_off = facts.plan.flash_attn == "off"
    other = "on" if is_off else "off"
    if not is_off and facts.plan.kv_type != "f16":
        why = f"a KV cache in {facts.plan.kv_type} needs it"
        return Question("flash_attn", "on", why_none=why)
    candidate = Candidate(other, {"flash_attn": other})
    return Question("flash_attn", "off" if is_off else "on", (candidate,), facts.sizes.deep)


def _kv_type(facts: Facts) -> Question:
    default = facts.plan.kv_type
    if default != "f16" or not facts.has_quantized_kv:
        why = "" if default != "f16" else "the model's heads are of no size for it"
        return Question("kv_type", default, why_none=why or f"it is in {default} already")
    candidate = Candidate("q8_0", {"kv_type": "q8_0", "flash_attn": "on"})
    return Question("kv_type", default, (candidate,), facts.sizes.deep, lossy=True)


def _mmap(facts: Facts) -> Question:
    if facts.weights_bytes > COPY_PART * facts.available_bytes:
        why = f"a copy of {gib(facts.weights_bytes)} takes too much of the RAM"
        return Question("mmap", "on", why_none=why)
    is_on = facts.plan.mmap
    other = Candidate("off" if is_on else "on", {"mmap": not is_on})
    return _by_load("mmap", "on" if is_on else "off", [other], facts)


def _mlock(facts: Facts) -> Question:
    limit = facts.memory.may_lock_bytes
    if limit is not None and limit < facts.weights_bytes:
        why = f"{gib(limit)} may be locked; raise the limit (ulimit -l)"
        return Question("mlock", "off", why_none=why)
    return _by_load("mlock", "off", [Candidate("on", {"mlock": True})], facts)


def _numa(facts: Facts) -> Question:
    if facts.memory.n_nodes < 2:
        return Question("numa", "none", why_none="one node, nothing to choose")
    found = [Candidate(name, {"numa": name}) for name in ("distribute", "isolate")]
    return _by_load("numa", "none", found, facts)


def _huge(facts: Facts) -> Question:
    """Nothing to choose: a copy of the weights has them wherever the system gives them, a map of
    the file has not."""
    told = {
        "always": "given to what mmap off copies, which is tried there",
        "madvise": "asked for by what mmap off copies, which is tried there",
        "never": "turned off in this system",
    }
    word = facts.memory.huge_pages
    why = told.get(word, "this system says nothing of them")
    return Question("huge_pages", word or "unknown", why_none=why)


def _by_load(setting: str, default: str, candidates: Sequence[Candidate], facts: Facts) -> Question:
    tests = facts.sizes.prefill, facts.sizes.decode
    return Question(setting, default, tuple(candidates), tests, by_load=True)


def _power(tokens: float) -> int:
    """The power of two at or below it; 1 at least."""
    return 1 << max(0, int(max(1.0, tokens)).bit_length() - 1)


def named(questions: Sequence[Question], only: Sequence[str]) -> Iterator[Question]:
    """Those of ``only``; all where that is empty."""
    return (question for question in questions if not only or question.setting in only)
