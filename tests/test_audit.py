"""What a load took beside what was planned, and how it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.audit import Audit, DeviceAudit, compare, lines, read, read_all, save
from fwlocal.llama import Buffer
from fwlocal.offload import OffloadPlan, Share

MIB = 2**20


def share(device: str, weights: int, kv: int = 0, compute: int = 0) -> Share:
    return Share(device, 1, weights * MIB, kv * MIB, compute * MIB, 0, 0)


def plan(*shares: Share) -> OffloadPlan:
    return OffloadPlan(shares, 1, 2, 4096, "f16", "auto", 512, 512, True, False)


def buffer(name: str, kind: str, mib: float, *, is_mapped: bool = False) -> Buffer:
    return Buffer(name, kind, round(mib * MIB), is_mapped)


def device(predicted_mib: int, actual_mib: float) -> DeviceAudit:
    other = {"kv": 0, "compute": 0}
    return DeviceAudit(
        "CUDA0",
        {"weights": predicted_mib * MIB, **other},
        {"weights": round(actual_mib * MIB), **other},
    )


def audit(file: Path, *devices: DeviceAudit) -> Audit:
    return Audit(str(file), "b1", 1, 2, 4096, "f16", devices, "2026-01-01T00:00:00+00:00")


def test_buffers_are_the_devices_whose_names_they_have() -> None:
    buffers = [
        buffer("CUDA0", "weights", 100),
        buffer("CUDA0", "compute", 7),
        buffer("CPU", "weights", 20),
        buffer("CUDA_Host", "compute", 3),  # pinned memory of the host
    ]
    gpu, host = compare(
        plan(share("CUDA0", 100, 0, 7), share("CPU", 20, 0, 3)), buffers, {"CUDA0": "CUDA0"}
    )

    assert gpu.actual == gpu.predicted == {"weights": 100 * MIB, "kv": 0, "compute": 7 * MIB}
    assert host.actual == host.predicted
    assert gpu.error_bytes == 0


def test_what_is_mapped_counts_for_what_is_not_elsewhere() -> None:
    buffers = [
        buffer("CPU", "weights", 500, is_mapped=True),  # reaches over tensors of a GPU
        buffer("CPU", "weights", 30),  # repacked
    ]
    (host,) = compare(plan(share("CPU", 100)), buffers, {})

    assert host.actual["weights"] == 100 * MIB


def test_a_mapping_that_is_too_small_is_an_error_of_the_plan() -> None:
    (host,) = compare(plan(share("CPU", 100)), [buffer("CPU", "weights", 60, is_mapped=True)], {})

    assert host.error_bytes == -40 * MIB
    assert host.is_off


@pytest.mark.parametrize(
    ("predicted", "actual", "is_off"),
    [
        (100, 101.9, False),
        (100, 102.1, True),
        (100, 97.9, True),
        (9000, 9063, False),
        (9000, 9065, True),
    ],
)
def test_two_per_cent_or_64_mib_are_too_much(predicted: int, actual: float, is_off: bool) -> None:
    assert device(predicted, actual).is_off is is_off


def test_it_is_told_in_lines() -> None:
    found = audit(Path("m.gguf"), device(100, 110))

    assert list(lines(found)) == [
        "CUDA0, planned / taken MiB: weights 100.0 / 110.0, kv 0.0 / 0.0, compute 0.0 / 0.0; "
        "off by +10.0 MiB"
    ]


def test_the_last_audit_of_each_file_is_kept(tmp_path: Path) -> None:
    models = [tmp_path / name for name in ("a.gguf", "b.gguf", "gone.gguf")]
    for model in models[:2]:
        model.touch()
    for model in models:
        save(tmp_path, audit(model, device(100, 100)))
    newer = replace(audit(models[0], device(100, 110)), made="2026-01-02T00:00:00+00:00")
    save(tmp_path, newer)

    assert read(tmp_path, str(models[0])) == newer
    assert read_all(tmp_path) == (newer, audit(models[1], device(100, 100)))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"devices": [1]}', "\0"])
def test_a_note_that_cannot_be_read_is_no_note(tmp_path: Path, text: str) -> None:
    model = tmp_path / "m.gguf"
    model.touch()
    save(tmp_path, audit(model))
    (note,) = (tmp_path / ".audits").iterdir()
    note.write_text(text, "utf-8")

    assert read(tmp_path, str(model)) is None
    assert read_all(tmp_path) == ()


def test_a_store_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / ".audits").touch()  # where the folder should be

    save(tmp_path, audit(tmp_path / "m.gguf"))

    assert read_all(tmp_path) == ()
