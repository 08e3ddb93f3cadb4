"""The doctor's report for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.doctor.examination import Folder, Report, Worker
from fwlocal.doctor.saving import Draft, KeptPrompts
from fwlocal.files import sized
from fwlocal.hardware import Device
from fwlocal.sizes import gib
from fwlocal.terminal import inert

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_BAD = "✗"
_VERBATIM: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data, for ``--json``."""
    return asdict(report)


def show(report: Report, console: Console) -> None:
    """The report for people: what there is, then what is wrong."""
    if console.is_terminal:
        console.print(_grid(report))
    else:
        console.file.write(_plain(report))
    console.print()
    if not report.problems:
        console.print("Everything is in order.", style="green")
    for problem in report.problems:
        console.print(f"{_BAD} {problem.what}", style="red", **_VERBATIM)
        console.print(f"  fix: {problem.fix}", **_VERBATIM)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    """Labels and lines; the label of several lines stands at the first."""
    for label, describe in _ROWS.items():
        for index, line in enumerate(describe(report)):
            yield label if index == 0 else "", line


def _grid(report: Report) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, line in _rows(report):
        grid.add_row(label, Text(line, style="red" if line.startswith(_BAD) else ""))
    return grid


def _plain(report: Report) -> str:
    """For a pipe: a line is a line, however long."""
    width = max(map(len, _ROWS)) + 2
    return "".join(f"{label:{width}}{line}".rstrip() + "\n" for label, line in _rows(report))


def _llama_line(report: Report) -> str:
    installed, required = report.llama_cpp_python
    return f"{installed or 'missing'} (needed: {required or 'unknown'})"


def _build_line(build_info: str) -> str:
    """The version, and the features that are built in."""
    version, _, system = build_info.removeprefix("llama.cpp ").partition(":")
    features = dict.fromkeys(re.findall(r"(\w+) = 1 \|", system))
    return f"{version} ({', '.join(features)})" if features else version


def _device_line(device: Device) -> str:
    free, total = device.free_bytes / 1e9, device.total_bytes / 1e9
    return f"{device.name}: {device.description} ({device.kind}), {free:.1f} of {total:.1f} GB free"


def _file_line(path: Path) -> str:
    return f"{path}{'' if path.exists() else ' (none)'}"


def _folder_line(folder: Folder) -> str:
    state = "" if folder.exists else " (not made yet)"
    return f"{folder.path}{state}, {folder.free_bytes / 1e9:.1f} GB free"


def _worker_lines(workers: tuple[Worker, ...]) -> Iterator[str]:
    for worker in workers:
        free = sum(device.free_bytes for device in worker.devices) / 1e9
        several = f" on {len(worker.devices)} devices" if len(worker.devices) > 1 else ""
        yield (
            f"{_BAD} {worker.error}"
            if worker.error
            else f"{worker.address}: {free:.1f} GB free{several}"
        )
    if any(worker.error for worker in workers):
        yield 'without them: --workers ""'
    if not workers:
        yield "none"


def _audit_lines(report: Report) -> Iterator[str]:
    """How the last load of each file went, where the plan was wrong; else only how many."""
    off = [audit for audit in report.audits if audit.is_off]
    for audit in off:
        for device in filter(lambda found: found.is_off, audit.devices):
            yield (
                f"{Path(audit.file).name} took {abs(device.error_bytes) / 2**20:.0f} MiB "
                f"{'more' if device.error_bytes > 0 else 'less'} on {device.device} than planned "
                f"({audit.made})"
            )
    if not off:
        yield f"{len(report.audits)} as planned" if report.audits else "none yet"


def _tuned_lines(report: Report) -> Iterator[str]:
    """What tune remembered: a line for each model, with what its loads take of it."""
    for tuned, holds in report.tuned:
        taken = ", ".join(
            f"{name} {_told(value)}" for name, value in tuned.settings.taken().items()
        )
        where = "" if tuned.placed == "CPU" else f", layers on {tuned.placed}"
        stale = "" if holds else "; of another machine or llama.cpp, and not used"
        counted = f"{tuned.n_measured} of {len(tuned.findings)} measured"
        told = f"{taken or 'the defaults'}; {counted}"
        yield f"{inert(tuned.model)}{where}: {told} ({tuned.made[:10]}{stale})"
    if not report.tuned:
        yield "none yet; `fwlocal tune -m MODEL` measures what fits"


def _prompts_line(kept: KeptPrompts | None) -> str:
    if kept is None:
        return "not looked at, without llama.cpp"
    most = f"{gib(kept.bound_bytes)} at most" if kept.bound_bytes else "turned off in config.toml"
    prompts = f"{kept.n_prompts} prompt{'s' if kept.n_prompts != 1 else ''}"
    return f"{sized(kept.size_bytes)} in {prompts} ({most}): {kept.folder}"


def _draft_lines(drafts: tuple[Draft, ...]) -> Iterator[str]:
    """A line for each model that could have one."""
    for draft in drafts:
        if draft.found is None:
            yield (
                f"{draft.model}: {draft.named} is not on this disk; `fwlocal pull {draft.named}` "
                "brings it"
            )
        elif draft.problem is not None:
            yield f"{_BAD} {draft.model}: {inert(draft.problem)}"
        else:
            yield f"{draft.model}: {draft.found} drafts for it"
    if not drafts:
        yield "none: models.toml names one for no model on this disk"


def _told(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


_ROWS: dict[str, Callable[[Report], list[str]]] = {
    "fwlocal": lambda r: [r.fwlocal],
    "Python": lambda r: [r.python],
    "system": lambda r: [r.system],
    "llama-cpp-python": lambda r: [_llama_line(r)],
    "llama.cpp": lambda r: [_build_line(r.llama_cpp) if r.llama_cpp else "not loaded"],
    "backends": lambda r: [", ".join(r.backends) + (", RPC built in" if r.rpc else "")],
    "devices": lambda r: [_device_line(device) for device in r.devices] or ["none"],
    "cores": lambda r: [
        f"{r.performance_cores} fast, {r.physical_cores} physical, {r.logical_cores} logical"
    ],
    "memory": lambda r: [
        f"{r.memory.available_bytes / 1e9:.1f} of {r.memory.total_bytes / 1e9:.1f} GB available"
    ],
    "bandwidth": lambda r: [
        f"{r.memory_bandwidth / 1e9:.1f} GB/s read (measured {r.memory_bandwidth_measured})"
    ],
    "models": lambda r: [_folder_line(r.models_folder)],
    "own models.toml": lambda r: [_file_line(r.user_models_toml)],
    "config.toml": lambda r: [_file_line(r.config_toml)],
    "workers": lambda r: [*_worker_lines(r.workers)],
    "loads": lambda r: [*_audit_lines(r)],
    "tuned": lambda r: [*_tuned_lines(r)],
    "prefix cache": lambda r: [_prompts_line(r.prompts)],
    "drafts": lambda r: [*_draft_lines(r.drafts)],
}
