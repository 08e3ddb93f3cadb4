"""What stands below a result's table: the marks explained, what ties, what went wrong, and on what
machine, by which versions and settings it was measured. Lines of plain text.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterator

from fwlocal.bench.columns import (
    FRONT,
    MEASURES,
    REFERENCE,
    TIES,
    test_heading,
    tests_of,
)
from fwlocal.bench.figures import thousands
from fwlocal.bench.result import BenchResult, Machine, Quality, Settings
from fwlocal.sizes import gib

HASH_DIGITS = 12

# What headings mean, in the order of the columns.
MEANINGS = {
    "COLD": "COLD: seconds to load a file that is not in memory yet; LOAD: one that is",
    "OF LIMIT": "OF LIMIT: decode speed, as a share of what the memory's bandwidth allows",
    "J/TOKEN": "J/TOKEN: energy for a token decoded, by {energy}",
    "KLD": "KLD: divergence from {reference}, in nats; mean ± standard error",
    "TOP-1 %": "TOP-1: where {reference} finds the same token likeliest",
    "Δp RMS %": "Δp RMS: how far the right token's probability is from {reference}'s",
    "SAME": "SAME: greedy answers that are {reference}'s to the end",
}


def ties_of(result: BenchResult) -> Iterator[str]:
    """A line for each measure in which neighbours cannot be told apart."""
    headings = {test.name: test_heading(test) for test in tests_of(result.levels)} | MEASURES
    ties: dict[str, list[str]] = {}
    for one in result.differences:
        if one.is_tie:
            ties.setdefault(one.measure, []).append(f"{one.a} {TIES} {one.b}")
    for measure, pairs in ties.items():
        yield f"tie in {headings.get(measure, measure)}: {', '.join(pairs)}"


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
    """What the marks that occur mean, and those of the ``headings`` that need a word."""
    if any(level.is_reference for level in result.levels):
        yield f"{REFERENCE}: the reference, which the others are compared with"
    if any(level.label in result.verdict.front for level in result.levels):
        yield f"{FRONT}: on the Pareto front; no other level is as good in all and better in one"
    if any(one.is_tie for one in result.differences):
        yield f"{TIES}: ties with the level above; the 95 % interval of the difference holds zero"
    sources = {level.energy.source for level in result.levels if level.energy is not None}
    energy = " and ".join(sorted(filter(None, sources))) or "the machine's counters"
    reference = result.reference or "the reference"
    for heading, meaning in MEANINGS.items():
        if heading in headings:
            yield meaning.format(energy=energy, reference=reference)


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
    n_threads = machine.n_threads
    rate = (machine.bandwidth_bytes_per_s or 0.0) / 1e9
    known = (
        f"{machine.cpu or 'CPU'} ({n_threads} thread{'' if n_threads == 1 else 's'})",
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
        f"{thousands(n_read)} chunk{'' if n_read == 1 else 's'} of {settings.n_ctx} tokens"
        f"{_until(result, settings.until)}"
    )


def _until(result: BenchResult, until: float | None) -> str:
    """What was to end it, and by whom that was not reached."""
    if until is None:
        return ""
    read = [level for level in result.levels if level.quality is not None]
    short = [one.label for one in read if one.quality and not _is_reached(one.quality, until)]
    but = f" (not reached: {', '.join(short)})" if short else ""
    return f", until the standard error is {until:g}{but}"


def _is_reached(quality: Quality, until: float) -> bool:
    """As ``fwlocal.bench.statistics.se_reached`` has it."""
    means = [mean for mean in quality.kld_by_chunk if not math.isnan(mean)]
    if len(means) < 2:
        return not means
    return statistics.stdev(means) / math.sqrt(len(means)) <= until


def _speed(settings: Settings) -> str:
    n_rounds = settings.repetitions
    if n_rounds == 1:
        return "tok/s, one round"
    return f"tok/s, the median of {n_rounds} rounds ± the one farthest from it; levels in turns"
