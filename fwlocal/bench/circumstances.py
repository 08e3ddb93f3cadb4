"""What differs between two runs besides their figures: machine, versions, settings, text, files.

One line for each thing, for people. What the figures are, this module does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fwlocal.bench.columns import is_measured
from fwlocal.bench.result import BenchResult, LevelResult
from fwlocal.files import sized

_NONE = "none"
# The memory's bandwidth is left out: it is measured anew, and never twice the same.
_THINGS: Mapping[str, Callable[[BenchResult], str]] = {
    "model": lambda r: r.model,
    "fwlocal": lambda r: r.fwlocal,
    "llama.cpp": lambda r: r.llama_cpp,
    "CPU": lambda r: r.machine.cpu,
    "threads": lambda r: str(r.machine.n_threads),
    "RAM": lambda r: sized(r.machine.ram_bytes),
    "GPUs": lambda r: ", ".join(r.machine.gpus),
    "system": lambda r: r.machine.system,
    "context": lambda r: f"{r.settings.n_ctx} tokens",
    "batch": lambda r: f"{r.settings.n_batch} tokens",
    "micro-batch": lambda r: f"{r.settings.n_ubatch} tokens",
    "KV cache": lambda r: r.settings.kv_type,
    "flash attention": lambda r: r.settings.flash_attn,
    "rounds": lambda r: str(r.settings.repetitions),
    "speed tests": lambda r: ", ".join(test.name for test in r.settings.tests),
    "text": lambda r: f"{r.text.name} (SHA-256 {r.text.sha256[:12]})" if r.text else "",
    "chunks": lambda r: str(r.settings.chunks),
    "until": lambda r: "" if r.settings.until is None else f"{r.settings.until:g}",
    "reference": lambda r: r.reference,
}


def of_runs(a: BenchResult, b: BenchResult, names: tuple[str, str]) -> Iterator[str]:
    """What the runs, called ``names``, do not share."""
    for thing, tell in _THINGS.items():
        in_a, in_b = tell(a), tell(b)
        if in_a != in_b:
            yield f"{thing}: {_in_both(in_a or _NONE, in_b or _NONE, names)}"


def of_level(a: LevelResult, b: LevelResult, names: tuple[str, str]) -> Iterator[str]:
    """The same of one level that both have."""
    for level, name in zip((a, b), names, strict=True):
        if level.problem:
            what = "failed later" if is_measured(level) else "nothing measured"
            yield f"{a.label}: {what} in {name} ({level.problem})"
    if a.sha256 and b.sha256 and a.sha256 != b.sha256:
        hashes = _in_both(a.sha256[:12], b.sha256[:12], names)
        yield f"{a.label}: not the same file (SHA-256 {hashes})"
    in_a, in_b = _placed(a), _placed(b)
    if in_a and in_b and in_a != in_b:
        yield f"{a.label}: {_in_both(in_a, in_b, names)}"


def reads_the_same(a: BenchResult, b: BenchResult) -> bool:
    """Whether chunk i is the same piece of text in both."""
    if a.text is None or b.text is None:
        return False
    return a.text.sha256 == b.text.sha256 and a.settings.n_ctx == b.settings.n_ctx


def has_the_same_reference(a: BenchResult, b: BenchResult) -> bool:
    """By its label, as levels are matched, or by its file."""
    of_a, of_b = _reference(a), _reference(b)
    if of_a is None or of_b is None:
        return True
    return of_a.label == of_b.label or (of_a.sha256 == of_b.sha256 and of_a.sha256 != "")


def _reference(result: BenchResult) -> LevelResult | None:
    return next((level for level in result.levels if level.is_reference), None)


def _placed(level: LevelResult) -> str:
    if level.problem or not level.n_layers:
        return ""
    return f"{level.n_gpu_layers} of {level.n_layers} layers on GPUs"


def _in_both(a: str, b: str, names: tuple[str, str]) -> str:
    return f"{a} in {names[0]}, {b} in {names[1]}"
