"""A result's columns: what is told of a level, in which cell, and what a narrow table leaves out.

The terminal's table and the Markdown one are both made of them; how a table looks is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fwlocal.bench.figures import figure, percent, perplexity, seconds
from fwlocal.bench.result import Difference, LevelResult, Quality, Speed, SpeedTest, Value
from fwlocal.bench.verdict import memory_bytes
from fwlocal.sizes import gib

UNKNOWN = "-"
TIES = "≈"  # before a figure that cannot be told from the one above it
FRONT = "*"
REFERENCE = "ref"
HOST = "CPU"
FAILED = "failed"  # behind the label of one that has figures all the same


@dataclass(frozen=True)
class Measure:
    """A column: ``cell`` is "" of a level that has none. ``left_out`` as in fwlocal.tables;
    ``name`` is what differences between levels call it, where there are any. ``is_distance`` of
    what the reference alone says nothing about."""

    heading: str
    cell: Callable[[LevelResult], str]
    left_out: int
    name: str = ""
    is_distance: bool = False

    def is_known(self, levels: Sequence[LevelResult]) -> bool:
        """Whether any of them has something to tell in this column."""
        asked = (one for one in levels if not (self.is_distance and one.is_reference))
        return any(map(self.cell, asked))


def measures_of(levels: Sequence[LevelResult]) -> tuple[Measure, ...]:
    """The columns that at least one of them has, in their order."""
    tests = [_of_test(test, left_out) for test, left_out in _places(tests_of(levels))]
    quality = (*_of_chunks(levels), *QUALITY)
    everything = (*SIZES, *_of_devices(levels), *LOADS, *tests, *LIMITS, *quality)
    return tuple(measure for measure in everything if measure.is_known(levels))


def tests_of(levels: Iterable[LevelResult]) -> list[SpeedTest]:
    """All that were run of any level, each once, in their order."""
    return list(dict.fromkeys(speed.test for level in levels for speed in level.speeds))


def devices_of(levels: Iterable[LevelResult]) -> list[str]:
    """All that any level took something of, each once."""
    return list(dict.fromkeys(taken.device for level in levels for taken in level.devices))


def cells(
    level: LevelResult, measures: Sequence[Measure], differences: Sequence[Difference] = ()
) -> list[str]:
    """One for each of the measures; a figure that ties with that of the level above is marked."""
    ties = {difference.measure for difference in differences if _ties(difference, level)}
    found = [(measure.name in ties, measure.cell(level)) for measure in measures]
    return [f"{TIES} {cell}" if ties and cell else cell or UNKNOWN for ties, cell in found]


def is_measured(level: LevelResult) -> bool:
    """Whether it has any figure that had to be measured: a level with a problem has none, or has
    failed later."""
    return bool(level.speeds or level.quality is not None or level.answers is not None)


def problem_of(level: LevelResult) -> str:
    """A line, by its label; "" where all is well."""
    if not level.problem:
        return ""
    return f"{level.label}: {'failed later: ' if is_measured(level) else ''}{level.problem}"


def named(level: LevelResult, front: Sequence[str] = ()) -> str:
    """Its label with its marks."""
    marks = (
        REFERENCE if level.is_reference else "",
        FRONT if level.label in front else "",
        FAILED if level.problem and is_measured(level) else "",
    )
    return " ".join((level.label, *filter(None, marks)))


def _ties(difference: Difference, level: LevelResult) -> bool:
    return difference.b == level.label and difference.is_tie


def test_heading(test: SpeedTest) -> str:
    """``pp512``, ``tg128@4k``."""
    depth = test.n_depth
    if not depth:
        return test.name
    short = f"{depth // 1024}k" if depth % 1024 == 0 else str(depth)
    return f"{test.name.partition(' ')[0]}@{short}"


def spread(speed: Speed) -> float | None:
    """How far the round farthest from the median is, in tok/s; None for a single one."""
    return max(abs(tps - speed.median) for tps in speed.tps) if len(speed.tps) > 1 else None


def _places(tests: Sequence[SpeedTest]) -> list[tuple[SpeedTest, int]]:
    """Each with when it is left out: the deeper ones first."""
    shallowest = min((test.n_depth for test in tests), default=0)
    return [
        (test, 1 if test.n_depth > shallowest else 16 if test.n_prompt else 18) for test in tests
    ]


def _of_test(test: SpeedTest, left_out: int) -> Measure:
    def cell(level: LevelResult) -> str:
        speed = level.speed(test)
        return figure(speed.median, spread(speed)) if speed and speed.tps else ""

    return Measure(test_heading(test), cell, left_out, test.name)


def _of_chunks(levels: Sequence[LevelResult]) -> list[Measure]:
    """How much of the text each has read, where that is not the same: never left out."""
    read = [level.quality.n_chunks for level in levels if level.quality is not None]
    if len(set(read)) < 2:
        return []

    def cell(level: LevelResult) -> str:
        return "" if level.quality is None else f"{level.quality.n_chunks} of {max(read)}"

    return [Measure("CHUNKS", cell, 0)]


def _of_devices(levels: Sequence[LevelResult]) -> list[Measure]:
    """A column for each, unless MEMORY tells as much."""
    devices = devices_of(levels)
    return [_of_device(device) for device in devices] if len(devices) > 1 else []


def _of_device(device: str) -> Measure:
    def cell(level: LevelResult) -> str:
        taken = [one.total for one in level.devices if one.device == device]
        return gib(sum(taken)) if taken else ""

    return Measure(device, cell, 2 if device == HOST else 12)


def _of_quality(
    pick: Callable[[Quality], Value], shown: Callable[[float, float | None], str] = figure
) -> Callable[[LevelResult], str]:
    def cell(level: LevelResult) -> str:
        if level.quality is None or not level.quality.n_tokens:
            return ""
        value = pick(level.quality)
        return shown(value.value, value.se)

    return cell


def _same_answers(level: LevelResult) -> str:
    if level.answers is None:
        return ""
    return f"{level.answers.n_identical} of {len(level.answers.first_difference)}"


def _on_gpu(level: LevelResult) -> str:
    if not level.n_gpu_layers or not level.n_layers:
        return ""
    return f"{level.n_gpu_layers} of {level.n_layers}"


def _load(seconds_: float | None) -> str:
    return "" if seconds_ is None else seconds(seconds_)


def _joules(level: LevelResult) -> str:
    if level.energy is None or level.energy.decode_j is None:
        return ""
    return f"{level.energy.decode_j:.3g}"


def _of_limit(level: LevelResult) -> str:
    share = level.bandwidth_share
    return "" if share is None else f"{share:.0%}"


SIZES = (
    Measure("SIZE", lambda level: gib(level.size_bytes), 17),
    Measure("BITS", lambda level: f"{level.bits_per_weight:.2f}", 3),
    Measure(
        "PEAK RSS", lambda level: gib(level.peak_rss_bytes) if level.peak_rss_bytes else "", 11
    ),
    Measure("MEMORY", lambda level: gib(memory_bytes(level)) if level.devices else "", 13),
    Measure("ON GPU", _on_gpu, 7),
)
LOADS = (
    Measure("LOAD", lambda level: _load(level.load_warm_s), 6),
    Measure("COLD", lambda level: _load(level.load_cold_s), 4),
)
LIMITS = (
    Measure("OF LIMIT", _of_limit, 8),
    Measure("J/TOKEN", _joules, 9),
)
QUALITY = (
    Measure("PPL", _of_quality(lambda found: found.ppl, perplexity), 15, "ppl"),
    Measure("KLD", _of_quality(lambda found: found.kld_mean), 0, "kld_mean", True),
    Measure("KLD 99.9 %", _of_quality(lambda found: found.kld_99_9), 5, "", True),
    Measure("TOP-1 %", _of_quality(lambda found: found.top1, percent), 14, "top1", True),
    Measure("Δp RMS %", _of_quality(lambda found: found.dp_rms, percent), 2, "", True),
    Measure("SAME", _same_answers, 10, "", True),
)
