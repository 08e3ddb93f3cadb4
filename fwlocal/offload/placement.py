"""Which layers go on which device, for given budgets: the fill that leaves the fewest to the CPU.

llama.cpp puts the last layers on the GPUs, in the order of its devices, and the output behind them
on the last one (``llama_model_base::load_tensors``). So the devices are filled from the end: the
last, which is the fastest, first. It knows neither policy nor words.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from fwlocal.offload.compute import (
    MANY,
    Measured,
    Role,
    Setting,
    compute_bytes,
    gpu_role,
    host_role,
)
from fwlocal.offload.footprint import Footprint

_BALANCE_STEPS = 12


@dataclass(frozen=True)
class Room:
    """Bytes that may be used of a device."""

    device: str
    size_bytes: int


@dataclass(frozen=True)
class Placement:
    """How many layers each GPU holds, in llama.cpp's order; the output counts as one."""

    devices: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """On all GPUs together."""
        return sum(self.counts)


NOWHERE = Placement((), ())


class Filler:
    """Fills devices with the layers of one model in one setting."""

    def __init__(self, model: Footprint, setting: Setting, measured: Measured) -> None:
        self.model, self.setting, self._measured = model, setting, measured
        self._known: dict[tuple[tuple[str, ...], int], list[tuple[int, ...]]] = {}
        self._ends = model.bytes_before(setting.n_ctx, setting.kv_type)
        self._ends.append(self._ends[-1] + model.output_bytes)

    def best(self, rooms: Sequence[Room]) -> Placement:
        """As many layers as fit; all of them on as few devices as can hold them."""
        n_layers = self.model.n_layers
        # Buffers differ with none, one or many layers left to the CPU.
        nearly_all = (self.exactly(count, rooms) for count in (n_layers, n_layers - 1))
        return next(filter(None, nearly_all), None) or self._fill(rooms, max(0, n_layers - MANY))

    def exactly(self, n_layers: int, rooms: Sequence[Room]) -> Placement | None:
        """The last ``n_layers`` on as few devices as can hold them, each filled to the same part
        of its room; None where they do not fit."""
        if n_layers == 0:
            return NOWHERE
        for count in range(1, len(rooms) + 1):
            used = rooms[-count:]
            if self._fill(used, n_layers).n_layers == n_layers:
                return self._balanced(used, n_layers)
        return None

    def roles(self, placement: Placement) -> tuple[Role, ...]:
        """What each GPU does, and at the end the CPU."""
        devices, counts = placement.devices, placement.counts
        last, n_left = len(devices) - 1, self.model.n_layers - placement.n_layers
        on_host = min(n_left, len(self.model.layers))
        gpus = (
            gpu_role(
                self.setting,
                devices,
                index,
                n_repeating=counts[index] - (index == last),
                n_on_host=on_host,
            )
            for index in range(len(devices))
        )
        return (*gpus, host_role(self.setting, devices, on_host))

    def compute_bytes(self, role: Role) -> int:
        """The compute buffer of a device in that role."""
        return compute_bytes(self.model, role, self._measured)

    def _balanced(self, rooms: Sequence[Room], n_layers: int) -> Placement:
        """The same layers with as equal a part of each room as layers allow."""
        placed = self._fill(rooms, n_layers)
        if len(rooms) == 1:
            return placed
        low, high = 0.0, 1.0
        for _ in range(_BALANCE_STEPS):
            part = (low + high) / 2
            smaller = [Room(room.device, int(room.size_bytes * part)) for room in rooms]
            trial = self._fill(smaller, n_layers)
            if trial.n_layers == n_layers and len(trial.devices) == len(rooms):
                placed, high = trial, part
            else:
                low = part
        return placed

    def _fill(self, rooms: Sequence[Room], n_layers: int) -> Placement:
        """At most ``n_layers``, from the end; devices that hold none are left out."""
        used = list(rooms)
        while used:
            counts = self._counts(used, n_layers)
            empty = [index for index, count in enumerate(counts) if not count]
            if not empty:
                return Placement(tuple(room.device for room in used), tuple(counts))
            del used[empty[-1]]
        return NOWHERE

    def _counts(self, rooms: Sequence[Room], n_layers: int) -> list[int]:
        """How many of the last ``n_layers`` each device takes, the last device first."""
        left, counts = n_layers, [0] * len(rooms)
        names = tuple(room.device for room in rooms)
        compute = self._compute(names, min(self.model.n_layers - n_layers, MANY))
        for index in range(len(rooms) - 1, -1, -1):
            has_output = index == len(rooms) - 1
            room_bytes, behind = rooms[index].size_bytes, n_layers - left
            counts[index] = self._count(compute[index], room_bytes, left, behind, has_output)
            left -= counts[index]
        return counts

    def _compute(self, names: tuple[str, ...], n_on_host: int) -> list[tuple[int, ...]]:
        """The compute buffer of each device with no, one and many layers."""
        known = self._known.get((names, n_on_host))
        if known is None:
            known = [
                tuple(
                    self.compute_bytes(
                        gpu_role(self.setting, names, index, n_repeating=n, n_on_host=n_on_host)
                    )
                    for n in range(MANY + 1)
                )
                for index in range(len(names))
            ]
            self._known[names, n_on_host] = known
        return known

    def _count(
        self, compute: tuple[int, ...], room_bytes: int, most: int, n_behind: int, has_output: bool
    ) -> int:
        """How many layers, at most so many, a device takes before those that lie behind."""
        end = self.model.n_layers - n_behind
        left_bytes = room_bytes - compute[MANY]
        first = bisect_left(self._ends, self._ends[end] - left_bytes, 0, end)
        count = min(end - first, most) if left_bytes > 0 else 0
        if count - has_output >= MANY:
            return count
        for n_repeating in (1, 0):  # for which less is computed
            count = n_repeating + has_output
            needed = compute[n_repeating] + self._ends[end] - self._ends[end - count]
            if count <= most and needed <= room_bytes:
                return count
        return 0
