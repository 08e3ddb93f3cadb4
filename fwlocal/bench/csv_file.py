"""A result as CSV: a row for each level, every figure and its standard error, and on what machine.

Names are stable: a figure keeps its column, empty where there is none; only tests and devices add
columns of their own (``tg128_d2048_tps_median``, ``mem_cuda0_kv_bytes``). RFC 4180, with a header;
numbers with all their digits, ``true`` and ``false``, seconds, bytes, nats and fractions.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from fwlocal.bench.columns import devices_of, tests_of
from fwlocal.bench.result import (
    Answers,
    BenchResult,
    DeviceBytes,
    Energy,
    LevelResult,
    Quality,
    Speed,
    SpeedTest,
    Value,
)

Cell = str | int | float | bool | None
Cells = Iterator[tuple[str, Cell]]

COUNTS = ("n_chunks", "n_tokens", "n_nan")
FIGURES = (
    "ppl",
    "ppl_ratio",
    "kld_mean",
    "kld_median",
    "kld_95",
    "kld_99",
    "kld_99_9",
    "kld_max",
    "top1",
    "dp_mean",
    "dp_rms",
)


def csv_text(result: BenchResult) -> str:
    """All of it; lines end with CR LF, as the RFC has it."""
    tests, devices = tests_of(result.levels), devices_of(result.levels)
    rows = [dict(_row(result, level, tests, devices)) for level in result.levels]
    names = [name for name, _ in _row(result, LevelResult("", "", 0, 0.0), tests, devices)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(names)), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _written(cell) for name, cell in row.items()} for row in rows)
    return text.getvalue()


def test_name(test: SpeedTest) -> str:
    """``tg128_d2048``."""
    kind = test.name.partition(" ")[0]
    return f"{kind}_d{test.n_depth}" if test.n_depth else kind


def _row(
    result: BenchResult, level: LevelResult, tests: Sequence[SpeedTest], devices: Sequence[str]
) -> Cells:
    """The same names in the same order for every level."""
    yield from _about(result, level)
    for device in devices:
        yield from _device(device, level.devices)
    for test in tests:
        yield from _speed(test, level.speed(test))
    yield from _energy(level.energy)
    yield from _quality(level.quality)
    yield from _answers(level.answers)
    yield from _run(result)


def _about(result: BenchResult, level: LevelResult) -> Cells:
    yield "label", level.label
    yield "file", level.file
    yield "sha256", level.sha256
    yield "is_reference", level.is_reference
    yield "is_on_front", level.label in result.verdict.front
    yield "is_recommended", level.label == result.verdict.label
    yield "problem", level.problem
    yield "size_bytes", level.size_bytes
    yield "bits_per_weight", level.bits_per_weight
    yield "n_gpu_layers", level.n_gpu_layers
    yield "n_layers", level.n_layers
    yield "peak_rss_bytes", level.peak_rss_bytes
    yield "load_cold_s", level.load_cold_s
    yield "load_warm_s", level.load_warm_s
    yield "bandwidth_share", level.bandwidth_share


def _device(device: str, taken: Sequence[DeviceBytes]) -> Cells:
    found = [one for one in taken if one.device == device]
    name = re.sub(r"\W+", "_", device).lower()
    for part in ("weights", "kv", "compute"):
        yield (
            f"mem_{name}_{part}_bytes",
            sum(getattr(one, part) for one in found) if found else None,
        )


def _speed(test: SpeedTest, speed: Speed | None) -> Cells:
    start = f"{test_name(test)}_tps"
    known = speed is not None and speed.tps
    yield f"{start}_median", speed.median if speed and known else None
    yield f"{start}_min", speed.spread[0] if speed and known else None
    yield f"{start}_max", speed.spread[1] if speed and known else None
    yield f"{start}_n", len(speed.tps) if speed else None


def _energy(energy: Energy | None) -> Cells:
    yield "prefill_j_per_token", energy.prefill_j if energy else None
    yield "decode_j_per_token", energy.decode_j if energy else None
    yield "energy_source", energy.source if energy else None


def _quality(quality: Quality | None) -> Cells:
    for count in COUNTS:
        yield count, getattr(quality, count) if quality else None
    for figure in FIGURES:
        value: Value | None = getattr(quality, figure) if quality else None
        yield figure, value.value if value else None
        yield f"{figure}_se", value.se if value else None


def _answers(answers: Answers | None) -> Cells:
    yield "n_answers", len(answers.first_difference) if answers else None
    yield "n_identical", answers.n_identical if answers else None


def _run(result: BenchResult) -> Cells:
    """The same in every row, so that files of several runs can be joined."""
    machine, settings, text = result.machine, result.settings, result.text
    yield "model", result.model
    yield "created", result.created
    yield "fwlocal", result.fwlocal
    yield "llama_cpp", result.llama_cpp
    yield "reference", result.reference
    yield "cpu", machine.cpu
    yield "n_threads", machine.n_threads
    yield "ram_bytes", machine.ram_bytes
    yield "gpus", "; ".join(machine.gpus)
    yield "system", machine.system
    yield "bandwidth_bytes_per_s", machine.bandwidth_bytes_per_s
    yield "n_ctx", settings.n_ctx
    yield "n_batch", settings.n_batch
    yield "n_ubatch", settings.n_ubatch
    yield "kv_type", settings.kv_type
    yield "flash_attn", settings.flash_attn
    yield "until", settings.until
    yield "seed", settings.seed
    yield "text", text.name if text else None
    yield "text_sha256", text.sha256 if text else None


def _written(cell: Cell) -> Cell:
    """Booleans as JSON writes them; None is empty."""
    return str(cell).lower() if isinstance(cell, bool) else cell
