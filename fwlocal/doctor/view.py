"""The doctor's report for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.doctor.examination import Folder, Report
from fwlocal.hardware import Device

if TYPE_CHECKING:
    from rich.console import Console

_VERBATIM: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data, for ``--json``."""
    return asdict(report)


def show(report: Report, console: Console) -> None:
    """The report for people: what there is, then what is wrong."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, describe in _ROWS.items():
        for index, line in enumerate(describe(report)):
            grid.add_row(label if index == 0 else "", Text(line))
    console.print(grid)
    console.print()
    if not report.problems:
        console.print("Everything is in order.", style="green")
    for problem in report.problems:
        console.print(f"✗ {problem.what}", style="red", **_VERBATIM)
        console.print(f"  fix: {problem.fix}", **_VERBATIM)


def _llama_line(report: Report) -> str:
    installed, required = report.llama_cpp_python
    return f"{installed or 'missing'} (needed: {required or 'unknown'})"


def _device_line(device: Device) -> str:
    free, total = device.free_bytes / 1e9, device.total_bytes / 1e9
    return f"{device.name}: {device.description} ({device.kind}), {free:.1f} of {total:.1f} GB free"


def _file_line(path: Path) -> str:
    return f"{path}{'' if path.exists() else ' (none)'}"


def _folder_line(folder: Folder) -> str:
    state = "" if folder.exists else " (not made yet)"
    return f"{folder.path}{state}, {folder.free_bytes / 1e9:.1f} GB free"


def _audit_lines(report: Report) -> Iterator[str]:
    """How the last load of each file went, where the plan was wrong; else only how many."""
    off = [audit for audit in report.audits if audit.is_off]
    for audit in off:
        for device in filter(lambda found: found.is_off, audit.devices):
            yield (
                f"{Path(audit.file).name} took {device.error_bytes / 2**20:+.0f} MiB on "
                f"{device.device} against the plan ({audit.made})"
            )
    if not off:
        yield f"{len(report.audits)} as planned" if report.audits else "none yet"


_ROWS: dict[str, Callable[[Report], list[str]]] = {
    "fwlocal": lambda r: [r.fwlocal],
    "Python": lambda r: [r.python],
    "system": lambda r: [r.system],
    "llama-cpp-python": lambda r: [_llama_line(r)],
    "llama.cpp": lambda r: [r.llama_cpp or "not loaded"],
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
    "workers": lambda r: [", ".join(r.workers) or "none"],
    "loads": lambda r: [*_audit_lines(r)],
}
