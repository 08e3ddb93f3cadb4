"""What was measured, as data that crosses processes, and as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

COLUMNS = (
    "GPU memory",
    "layers on the GPU",
    "KV cache in",
    "device",
    "weights, GiB",
    "KV cache, GiB",
    "compute, GiB",
    "total, GiB",
    "prefill tok/s",
    "decode tok/s",
)
SAME = ""  # in the cells that a device's row shares with the one above


@dataclass(frozen=True)
class Parts:
    """Bytes of what lies on one device."""

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.kv + self.compute


@dataclass(frozen=True)
class DeviceUse:
    """What was foretold for a device, and what llama.cpp took there; None where it told nothing,
    as when no layer is on a GPU."""

    device: str
    n_layers: int
    predicted: Parts
    actual: Parts | None


@dataclass(frozen=True)
class Measurement:
    """One load of the model; the speeds are medians, in tokens per second."""

    n_gpu_layers: int
    n_layers: int
    n_ctx: int
    kv_type: str
    prefill_tps: float
    decode_tps: float
    devices: tuple[DeviceUse, ...]

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """What ``to_json`` wrote."""
        fields = json.loads(text)
        devices = tuple(
            DeviceUse(
                use["device"],
                use["n_layers"],
                Parts(**use["predicted"]),
                Parts(**use["actual"]) if use["actual"] else None,
            )
            for use in fields.pop("devices")
        )
        return cls(**fields, devices=devices)


def heading() -> str:
    """The table's first two lines."""
    return f"{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}"


def budget_name(budget_bytes: int | None) -> str:
    """A budget for people."""
    return "all" if budget_bytes is None else f"{budget_bytes / 2**30:g} GiB"


def rows(budget_bytes: int | None, measured: Measurement) -> Iterator[str]:
    """A line for each device that holds anything, the GPU's first."""
    own = (
        budget_name(budget_bytes),
        f"{measured.n_gpu_layers} of {measured.n_layers}",
        measured.kv_type,
    )
    speeds = (f"{measured.prefill_tps:.1f}", f"{measured.decode_tps:.2f}")
    for number, use in enumerate(measured.devices):
        pairs = (
            _pair(getattr(use.predicted, part), getattr(use.actual, part, None))
            for part in ("weights", "kv", "compute", "total")
        )
        first, last = (own, speeds) if number == 0 else ((SAME,) * len(own), (SAME,) * len(speeds))
        yield row([*first, f"{use.device} ({use.n_layers} layers)", *pairs, *last])


def failed_row(budget_bytes: int | None, why: str) -> str:
    """The line of a budget that could not be measured."""
    return row([budget_name(budget_bytes), why, *[SAME] * (len(COLUMNS) - 2)])


def _pair(predicted: int, actual: int | None) -> str:
    taken = "?" if actual is None else f"{actual / 2**30:.3f}"
    return f"{predicted / 2**30:.3f} / {taken}"


def row(cells: list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |"
