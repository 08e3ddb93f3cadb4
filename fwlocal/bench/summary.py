"""From what was measured to what is shown: the state of a run as a BenchResult. Pure but for the
time of day."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from fwlocal import __version__, llama
from fwlocal.bench.answers import compare
from fwlocal.bench.bandwidth import bandwidth_share
from fwlocal.bench.measured import EnergyUsed, Round
from fwlocal.bench.order import Order
from fwlocal.bench.result import (
    Answers,
    BenchResult,
    Energy,
    LevelResult,
    Machine,
    Speed,
)
from fwlocal.bench.state import Level, State
from fwlocal.bench.statistics import differences, quality_of
from fwlocal.bench.verdict import Wishes, decide, decode_speed
from fwlocal.inspection import bits_per_weight


def summary(
    order: Order, state: State, command: Callable[[LevelResult], str], *, is_whole: bool = True
) -> BenchResult:
    """All levels as far as they are known, what tells them apart, and the verdict, by ``command``
    with what runs a level. Unless the run ``is_whole`` no level is recommended: another may prove
    the better."""
    measured = tuple(level_result(level, state) for level in state.levels)
    unreadable = tuple(
        LevelResult(label, file="", size_bytes=0, bits_per_weight=0.0, problem=problem)
        for label, problem in state.unreadable.items()
    )
    seed = order.settings.seed
    found = differences(
        [level.label for level in state.levels],
        {level.label: level.scores for level in state.levels},
        {level.label: level.speeds for level in measured},
        seed,
    )
    return BenchResult(
        model=order.model,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        fwlocal=__version__,
        llama_cpp=llama.version(),
        machine=state.machine,
        settings=order.settings,
        reference=state.reference.label if state.reference and state.text else "",
        levels=(*measured, *unreadable),
        differences=found,
        text=state.text,
        verdict=decide(measured, found, order.wishes if is_whole else Wishes(), command),
    )


def level_result(level: Level, state: State) -> LevelResult:
    """One level, as far as it is known."""
    header, rounds, reference = level.entrant.header, level.rounds, state.reference
    last = max(rounds, key=lambda one: len(one.speeds), default=None)
    result = LevelResult(
        label=level.label,
        file=str(level.entrant.file.path),
        size_bytes=header.file_size_bytes,
        bits_per_weight=bits_per_weight(header),
        sha256=level.sha256,
        is_reference=level is reference,
        problem=level.problem,
        n_gpu_layers=last.n_gpu_layers if last else level.n_gpu_layers,
        n_layers=last.n_layers if last else 0,
        devices=last.devices if last else (),
        peak_rss_bytes=max((one.peak_rss_bytes or 0 for one in rounds), default=0) or None,
        load_cold_s=_median(one.load_cold_s for one in rounds),
        load_warm_s=_median(one.load_warm_s for one in rounds),
        speeds=_speeds(rounds),
        energy=_energy([one.energy for one in rounds if one.energy is not None]),
        quality=quality_of(level.scores) if level.scores else None,
        answers=_answers(level, reference),
    )
    return replace(result, bandwidth_share=_bandwidth_share(level, result, state.machine))


def _bandwidth_share(level: Level, result: LevelResult, machine: Machine) -> float | None:
    decode = decode_speed(result)
    if decode is None:
        return None
    whole = level.whole_rounds  # which tell how large their context was
    return bandwidth_share(level.entrant.header, whole[-1], decode, machine) if whole else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _speeds(rounds: Sequence[Round]) -> tuple[Speed, ...]:
    tests = dict.fromkeys(test for one in rounds for test, _ in one.speeds)
    return tuple(
        Speed(test, tuple(tps for one in rounds for found, tps in one.speeds if found == test))
        for test in tests
    )


def _energy(used: Sequence[EnergyUsed]) -> Energy | None:
    """Of a token, over all rounds."""
    if not used:
        return None
    n_prefilled, n_decoded = sum(u.n_prefilled for u in used), sum(u.n_decoded for u in used)
    return Energy(
        sum(u.prefill_j for u in used) / n_prefilled if n_prefilled else None,
        sum(u.decode_j for u in used) / n_decoded if n_decoded else None,
        used[-1].source,
    )


def _answers(level: Level, reference: Level | None) -> Answers | None:
    if level.answers is None or reference is None or reference.answers is None:
        return None
    return compare(reference.answers, level.answers)
