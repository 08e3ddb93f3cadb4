"""What `fwlocal doctor` says of remembered settings."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fwlocal import hardware, llama, tuned
from fwlocal.doctor import Report, as_data, examine, show
from fwlocal.tuned import Finding, Settings, Tuned


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where settings are remembered."""
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "cache"))
    return tuned.default_folder()


def shown(report: Report) -> str:
    text = io.StringIO()
    show(report, Console(file=text, width=200))
    return text.getvalue()


def test_nothing_is_remembered_at_first(folder: Path) -> None:
    assert "none yet; `fwlocal tune -m MODEL` measures what fits" in shown(examine())


def test_a_line_for_each_model(folder: Path) -> None:
    gpus = hardware.machine(llama.devices()).gpus
    here = tuned.this_machine(gpus, llama.build_info())
    settings = Settings(n_threads=3, mmap=False)
    findings = (
        Finding("n_threads", "2", "3", "taken", 1.2, 1.1, 1.3),
        Finding("mmap", "on", "off", "taken", 1.2, 1.1, 1.3),
        Finding("n_ubatch", "512", "128", "noisy", 1.2, 0.1, 9.0),
        Finding("numa", "none", "none", "none"),
    )
    known = Tuned("a:Q4_0", "ab" * 32, here, "CPU", settings, findings, "2030-01-31T00:00:00+00:00")
    there = replace(here, build="llama.cpp 0")
    for one in (
        known,
        replace(known, model="b\x1b[31m", shape="cd" * 32, placed="both", settings=Settings()),
        replace(known, model="c", where=there),
    ):
        tuned.keep(folder, one)

    report = examine()

    rows = [line.strip() for line in shown(report).partition("\ntuned")[2].splitlines()[:3]]
    assert rows == [
        "a:Q4_0: n_threads 3, mmap off; 2 of 4 measured (2030-01-31)",
        "b␛[31m, layers on both: the defaults; 2 of 4 measured (2030-01-31)",
        "c: n_threads 3, mmap off; 2 of 4 measured (2030-01-31; of another machine or llama.cpp, "
        "and not used)",
    ]
    assert as_data(report)["tuned"][0][0]["settings"]["n_threads"] == 3
