"""What `fwlocal doctor` says of cores, bandwidth and config.toml; test_cli.py has the verb."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fwlocal.doctor import Report, examine, show


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's settings; none of the developer's caches is used, on Linux."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.parent / "cache"))
    folder = home.parent / "config"
    folder.mkdir()
    return folder


def shown(report: Report) -> str:
    text = io.StringIO()
    show(report, Console(file=text, width=300))
    return text.getvalue()


def test_cores_and_bandwidth(config: Path) -> None:
    first, second = examine(), examine()

    assert 1 <= first.performance_cores <= first.physical_cores <= first.logical_cores
    assert first.memory_bandwidth == second.memory_bandwidth, "measured once"
    assert f"{first.performance_cores} fast, {first.physical_cores} physical" in shown(first)
    assert f"GB/s read (measured {first.memory_bandwidth_measured})" in shown(first)


def test_workers_of_config_toml(config: Path) -> None:
    (config / "config.toml").write_text('workers = ["attic:50052", "cellar"]\n')

    report = examine()

    assert report.workers == ("attic:50052", "cellar")
    assert "attic:50052, cellar" in shown(report)
    assert str(config / "config.toml") in shown(report)
    assert f"{config / 'models.toml'} (none)" in shown(report)


def test_a_config_toml_that_is_wrong(config: Path) -> None:
    (config / "config.toml").write_text('worker = ["attic"]\n')

    problems = [problem for problem in examine().problems if "config.toml" in problem.what]

    assert [problem.what.partition(": ")[2] for problem in problems] == [
        "unknown key 'worker'; did you mean 'workers'?"
    ]
    assert problems[0].fix == f"correct {config / 'config.toml'}, or move it away"
