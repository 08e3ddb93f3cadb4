"""What stands below a result's table: the marks explained, what ties, what went wrong, and on what
machine, by which versions and settings it was measured. Lines of plain text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fwlocal.bench.columns import FRONT, REFERENCE, TIES, measures_of, problem_of
from fwlocal.bench.figures import counted, thousands
from fwlocal.bench.result import BenchResult, Machine, Settings
from fwlocal.bench.statistics import LEAST_CHUNKS, LEAST_ROUNDS, is_reached
from fwlocal.bench.verdict import decode_speed, memory_n_ctx
from fwlocal.sizes import gib

HASH_DIGITS = 12

# What headings mean, in the order of the columns.
MEANINGS = {
    "MEMORY": "MEMORY: weights, {cache} and buffers, on all devices",
    "COLD": "COLD: to load a file that is not in memory yet",
    "OF LIMIT": "OF LIMIT: decode speed, as a share of what the memory's bandwidth allows",
    "J/TOKEN": "J/TOKEN: energy for a token decoded, by {energy}",
    "CHUNKS": "CHUNKS: how much of the text was read; compare figures of the same chunks",
    "KLD": "KLD: mean divergence from {reference}, nats ± standard error",
    "TOP-1 %": "TOP-1: where {reference} finds the same token likeliest",
    "Δp RMS %": "Δp RMS: how far the right token's probability is from {reference}'s",
    "SAME": "SAME: greedy answers that are {reference}'s to the end",
}


def problems(result: BenchResult) -> Iterator[str]:
    """A line for each level that failed, wholly or later."""
    yield from filter(None, map(problem_of, result.levels))


def ties_of(result: BenchResult, headings: Collection[str]) -> Iterator[str]:
    """Which neighbours cannot be told apart, by the columns shown, in a line; and why not all are
    compared, where they are not."""
    found = []
    for measure in measures_of(result.levels):
        ties = (d for d in result.differences if d.is_tie and d.measure == measure.name)
        pairs = ", ".join(f"{one.a} {TIES} {one.b}" for one in ties)
        if pairs and measure.heading in headings:
            found.append(f"{measure.heading.removesuffix(' %')}: {pairs}")
    if found:
        yield f"ties: {'; '.join(found)}"
    yield from _too_little(result)


def _too_little(result: BenchResult) -> Iterator[str]:
    read = [level.quality.n_chunks for level in result.levels if level.quality is not None]
    if len(read) > 1 and max(read) < LEAST_CHUNKS:
        many = f"--chunks {2 * LEAST_CHUNKS} or more"
        yield f"too few chunks ({max(read)}) to tell levels apart; take {many}"
    rounds = [max(len(s.tps) for s in level.speeds) for level in result.levels if level.speeds]
    if len(rounds) > 1 and max(rounds) < LEAST_ROUNDS:
        yield "one round: speeds cannot be told apart; take -r 3"


def not_numbers(result: BenchResult) -> Iterator[str]:
    """A line for each level with logits that are no numbers, its own or the reference's."""
    quality = (level.quality for level in result.levels if level.is_reference)
    of_reference = next((one.n_nan for one in quality if one is not None), 0)
    for level in result.levels:
        if level.quality is not None and level.quality.n_nan:
            n_all = level.quality.n_nan + level.quality.n_tokens
            whose = f", or {result.reference}'s," if of_reference and not level.is_reference else ""
            yield (
                f"{level.label}: logits{whose} at {thousands(level.quality.n_nan)} of "
                f"{thousands(n_all)} positions are no numbers (NaN); they are in no figure"
            )


def legend(result: BenchResult, headings: Collection[str]) -> Iterator[str]:
    """What the marks that occur mean, and those of the ``headings`` that need a word: a line for
    each of the two."""
    if marks := "; ".join(_marks(result, headings)):
        yield marks
    if meanings := "; ".join(_meanings(result, headings)):
        yield meanings


def _marks(result: BenchResult, headings: Collection[str]) -> Iterator[str]:
    if any(level.is_reference for level in result.levels):
        yield f"{REFERENCE}: the reference"
    if any(level.label in result.verdict.front for level in result.levels):
        things = _weighed(result)
        yield f"{FRONT}: on the Pareto front: no level is as good in {things} and better in one"
    shown = {one.name for one in measures_of(result.levels) if one.heading in headings}
    if any(one.is_tie and one.measure in shown for one in result.differences):
        yield f"{TIES}: ties with the level above (the difference's 95 % interval holds zero)"


def _weighed(result: BenchResult) -> str:
    """What the front is of: all that was measured of it."""
    has_speed = any(decode_speed(level) is not None for level in result.levels)
    has_quality = any(level.quality is not None for level in result.levels)
    things = ["size", *(["decode speed"] * has_speed), *(["KLD"] * has_quality)]
    return f"{', '.join(things[:-1])} and {things[-1]}"


def _meanings(result: BenchResult, headings: Collection[str]) -> Iterator[str]:
    n_ctx = max(map(memory_n_ctx, result.levels), default=0)
    cache = f"KV cache of {thousands(n_ctx)} tokens" if n_ctx else "KV cache"
    sources = {level.energy.source for level in result.levels if level.energy is not None}
    energy = " and ".join(sorted(filter(None, sources))) or "the machine's counters"
    reference = result.reference or "the reference"
    for heading, meaning in MEANINGS.items():
        if heading in headings:
            yield meaning.format(energy=energy, reference=reference, cache=cache)


def facts(result: BenchResult) -> Iterator[str]:
    """On what, by what and how it was measured."""
    yield f"machine: {in_words(result.machine)}"
    versions = f"fwlocal {result.fwlocal}, llama.cpp {result.llama_cpp}"
    yield ", ".join(filter(None, (f"model: {result.model or 'files'}", versions, result.created)))
    settings = result.settings
    if result.text is not None:
        yield f"text: {_text(result)}"
    if any(level.speeds for level in result.levels):
        yield f"speed: {_speed(settings)}"
    yield (
        f"settings: context {settings.n_ctx}, batch {settings.n_batch}, micro-batch "
        f"{settings.n_ubatch}, KV cache {settings.kv_type}, flash attention {settings.flash_attn}, "
        f"seed {settings.seed}"
    )


def in_words(machine: Machine) -> str:
    """A machine in a line."""
    rate = (machine.bandwidth_bytes_per_s or 0.0) / 1e9
    known = (
        f"{machine.cpu or 'CPU'} ({counted(machine.n_threads, 'thread')})",
        f"{gib(machine.ram_bytes)} RAM",
        f"{rate:.{0 if rate >= 10 else 1}f} GB/s" if rate else "",
        *machine.gpus,
        machine.system,
    )
    return ", ".join(filter(None, known))


def _text(result: BenchResult) -> str:
    text, settings = result.text, result.settings
    if text is None:
        return ""
    n_read = max((one.quality.n_chunks for one in result.levels if one.quality), default=0)
    return (
        f"{text.name} (SHA-256 {text.sha256[:HASH_DIGITS]}, {thousands(text.n_tokens)} tokens), "
        f"{counted(n_read, 'chunk')} of {settings.n_ctx} tokens"
        f"{_until(result, settings.until)}"
    )


def _until(result: BenchResult, until: float | None) -> str:
    """What was to end it, and by whom that was not reached."""
    if until is None:
        return ""
    short = [
        level.label
        for level in result.levels
        if level.quality is not None and not is_reached(level.quality.kld_by_chunk, until)
    ]
    but = f" (not reached: {', '.join(short)})" if short else ""
    return f", until the standard error is {until:g}{but}"


def _speed(settings: Settings) -> str:
    n_rounds = settings.repetitions
    if n_rounds == 1:
        return "tok/s, one round"
    return f"tok/s, the median of {n_rounds} rounds ± the one farthest from it; levels in turns"
