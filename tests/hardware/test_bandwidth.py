"""The memory's bandwidth: measured, and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fwlocal import hardware
from fwlocal.hardware.bandwidth import KEPT_S, cpu_model


def test_bandwidth_is_a_plausible_figure() -> None:
    measured = hardware.memory_bandwidth(size_bytes=32 * 2**20, rounds=1)

    assert 1e8 < measured < 1e13


def meter(*figures: float) -> Callable[[], float]:
    """Measures these, and fails when it is asked once more."""
    left = iter(figures)
    return lambda: next(left)


def measured(path: Path, measure: Callable[[], float], at: float) -> float:
    return hardware.known_bandwidth(path, measure=measure, now=lambda: float(at)).bytes_per_s


def test_bandwidth_is_measured_once_a_month(tmp_path: Path) -> None:
    path, figures = tmp_path / "cache" / "bandwidth.json", meter(1e10, 2e10)

    assert measured(path, figures, at=1000) == 1e10
    assert measured(path, figures, at=1000 + KEPT_S) == 1e10
    assert measured(path, figures, at=1001 + KEPT_S) == 2e10
    assert list(path.parent.iterdir()) == [path]
    assert hardware.known_bandwidth(path, now=lambda: 1001.0 + KEPT_S).measured_at == 1001 + KEPT_S


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    path, figures = tmp_path / "bandwidth.json", meter(1e10, 2e10)

    measured(path, figures, at=1000)

    assert measured(path, figures, at=999) == 2e10


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": "another"},
        {"cores": 999},
        {"ram_bytes": 1},
        {"bytes_per_s": float("nan")},
        {"bytes_per_s": float("inf")},
        {"bytes_per_s": 0.0},
        {"bytes_per_s": -1.0},
        {"bytes_per_s": "fast"},
        {"bytes_per_s": True},
        {"bytes_per_s": 10**400},
        {"measured_at": None},
        {"measured_at": float("inf")},
    ],
)
def test_a_figure_of_another_machine_or_none_at_all(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "bandwidth.json"
    measured(path, meter(1e10), at=KEPT_S * 9)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    assert measured(path, meter(2e10), at=KEPT_S * 9) == 2e10
    assert measured(path, meter(), at=KEPT_S * 9) == 2e10


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bandwidth.json"
    path.write_bytes(content)

    assert measured(path, meter(1e10), at=1) == 1e10
    assert measured(path, meter(), at=1) == 1e10


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "bandwidth.json", tmp_path):
        assert measured(path, meter(1e10), at=1) == 1e10
    assert hardware.cached_memory_bandwidth(tmp_path / "file" / "b.json") > 1e8


def test_the_processors_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A CPU: fast\n\nprocessor\t: 1")

    assert cpu_model(tmp_path / "cpuinfo") == "A CPU: fast"
    assert cpu_model(tmp_path / "none") == cpu_model(tmp_path / "neither")
