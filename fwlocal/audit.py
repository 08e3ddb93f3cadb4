"""What a load really took of each device, beside what was planned; kept in the store.

It compares numbers and keeps them; llama.cpp's log is read by ``fwlocal.llama``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.errors import StoreError
from fwlocal.files import write_atomically
from fwlocal.offload import OffloadPlan

if TYPE_CHECKING:
    from fwlocal.llama import Buffer

FOLDER = ".audits"  # in the store
OFF_PART, OFF_BYTES = 0.02, 64 << 20
LOG_ROUNDING_BYTES = 1 << 18  # each of several buffers to hundredths of a MiB
HOST = "CPU"
_KINDS = ("weights", "kv", "compute")


@dataclass(frozen=True)
class DeviceAudit:
    """One device's bytes: weights, KV cache and compute buffers, planned and taken."""

    device: str
    predicted: Mapping[str, int]
    actual: Mapping[str, int]

    @property
    def error_bytes(self) -> int:
        """How much more was taken than planned."""
        return sum(self.actual.values()) - sum(self.predicted.values())

    @property
    def is_off(self) -> bool:
        """Whether the plan was wrong by more than 2 % or 64 MB; and by more than the log rounds."""
        least = min(OFF_BYTES, OFF_PART * sum(self.actual.values()))
        return abs(self.error_bytes) > max(LOG_ROUNDING_BYTES, least)


@dataclass(frozen=True)
class Audit:
    """One load of a model's file, at ``made`` (ISO 8601, UTC)."""

    file: str
    llama_cpp: str
    n_gpu_layers: int
    n_layers: int
    n_ctx: int
    kv_type: str
    devices: tuple[DeviceAudit, ...]
    made: str

    @property
    def is_off(self) -> bool:
        """Whether any device's figures are."""
        return any(device.is_off for device in self.devices)


def compare(
    plan: OffloadPlan, buffers: Sequence[Buffer], names: Mapping[str, str]
) -> tuple[DeviceAudit, ...]:
    """The plan's shares beside the ``buffers`` that were made; ``names`` are the devices' by their
    buffers' names, and all others are on the host."""
    audits = []
    for share in plan.shares:
        own = [buffer for buffer in buffers if names.get(buffer.name, HOST) == share.device]
        predicted = {
            "weights": share.weights_bytes,
            "kv": share.kv_bytes,
            "compute": share.compute_bytes,
        }
        audits.append(DeviceAudit(share.device, predicted, _taken(own, share.weights_bytes)))
    return tuple(audits)


def _taken(buffers: Sequence[Buffer], weights_bytes: int) -> dict[str, int]:
    """Bytes by kind. A mapped part of the file reaches over tensors that are elsewhere, which cost
    nothing here: it counts for what is not in the other buffers of weights."""
    taken = {
        kind: sum(b.size_bytes for b in buffers if b.kind == kind and not b.is_mapped)
        for kind in _KINDS
    }
    mapped = sum(buffer.size_bytes for buffer in buffers if buffer.is_mapped)
    taken["weights"] += min(mapped, max(0, weights_bytes - taken["weights"]))
    return taken


def lines(audit: Audit) -> Iterator[str]:
    """What to tell of it: one line for each device."""
    for device in audit.devices:
        parts = ", ".join(
            f"{kind} {device.predicted[kind] / 2**20:.1f} / {device.actual[kind] / 2**20:.1f}"
            for kind in _KINDS
        )
        warning = f"; off by {device.error_bytes / 2**20:+.1f} MiB" if device.is_off else ""
        yield f"{device.device}, planned / taken MiB: {parts}{warning}"


def save(root: Path, audit: Audit) -> None:
    """Keep the audit of a file's last load in the store ``root``, if there is one and it can be
    written."""
    path = _path(root, audit.file)
    with contextlib.suppress(OSError, StoreError):
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(asdict(audit), indent=1))


def read(root: Path, file: str) -> Audit | None:
    """The audit of a file's last load, if there is one."""
    return _read(_path(root, file))


def read_all(root: Path) -> tuple[Audit, ...]:
    """The audits of the store ``root`` whose files are still there, the newest first."""
    found = [_read(path) for path in sorted((root / FOLDER).glob("*.json"))]
    there = [audit for audit in found if audit is not None and Path(audit.file).exists()]
    return tuple(sorted(there, key=lambda audit: audit.made, reverse=True))


def _path(root: Path, file: str) -> Path:
    name = hashlib.sha256(file.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return root / FOLDER / f"{name}.json"


def _read(path: Path) -> Audit | None:
    """None for a file that is not there or cannot be read: it is a note, no more."""
    try:
        return _audit(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _audit(data: dict[str, Any]) -> Audit:
    devices = tuple(
        DeviceAudit(
            str(device["device"]),
            {kind: int(device["predicted"][kind]) for kind in _KINDS},
            {kind: int(device["actual"][kind]) for kind in _KINDS},
        )
        for device in data.pop("devices")
    )
    return Audit(**data, devices=devices)
