"""What a machine would do with a model, level by level: the plan of each, and how fast it decodes.

Pure: headers, a machine and speeds go in. The speed is an estimate. For every token each device
reads the weights of its layers and its part of the KV cache, one device after the other, so

    tok/s = EFFICIENCY / sum over the devices of (bytes read for a token / bandwidth)

with the cache half full, as in the middle of a conversation, and of experts only those that are
used. What crosses the wires between devices and machines is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fwlocal.errors import DoesNotFit
from fwlocal.forecast.cards import Speed
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Machine
from fwlocal.levels import UNQUANTIZED
from fwlocal.offload import (
    Footprint,
    Layer,
    OffloadPlan,
    Request,
    beside,
    footprint,
    in_place_of_layers,
    make_plan,
    may_pay,
    request_for_draft,
    without_draft,
)

# Measured: 0.51 for SmolLM2 135M on two cores (128 tok/s of 97 MB, 24 GB/s by dot products); 0.49
# for a 70B at Q4_0 on an A100 (25.7 tok/s of 38.9 GB, 2039 GB/s by its data sheet). Small models on
# fast cards reach up to 0.7.
EFFICIENCY = 0.5
HALF_FULL = 0.5
HOST = "CPU"

NO_LEVEL = "-"  # of a file whose name tells none
ON_DISK, PUBLISHED, CONVERTED = "on disk", "ready-made", "convert"


@dataclass(frozen=True)
class Candidate:
    """One level of a model, there or not; ``origin`` says how it is had, and ``needs_imatrix`` that
    nobody can convert to it without an importance matrix. ``name`` is what the user calls it; else
    its file's name stands for it."""

    level: str
    header: GGUFHeader
    origin: str
    needs_imatrix: bool = False
    name: str = ""

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.name or self.header.path.name

    @property
    def called_header(self) -> GGUFHeader:
        """The header under that name, for those who name it by its file."""
        return replace(self.header, path=Path(self.called))

    @property
    def size_bytes(self) -> int:
        """Of its file, or about."""
        return self.header.file_size_bytes

    def of_model(self, model: str) -> Candidate:
        """Itself; if it has no file here, called MODEL:LEVEL."""
        if self.origin == ON_DISK:
            return self
        return replace(self, name=model if self.level == NO_LEVEL else f"{model}:{self.level}")


@dataclass(frozen=True)
class Draft:
    """A model that is to draft, and its place: ``plan`` None where it cannot, or there is no memory
    for both, for the reason in ``refusal``."""

    candidate: Candidate
    plan: OffloadPlan | None
    refusal: str = ""


@dataclass(frozen=True)
class Forecast:
    """What would become of a candidate: ``plan`` None for one that does not fit, for the reason in
    ``refusal``. ``tokens_per_s`` is an estimate, of decoding without what the ``draft`` brings;
    ``alone`` is the plan if a draft were not beside it, by which levels are compared: some have
    room for one, and others have not."""

    candidate: Candidate
    plan: OffloadPlan | None
    tokens_per_s: float | None = None
    refusal: str = ""
    draft: Draft | None = None
    alone: OffloadPlan | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all layers are on GPUs."""
        return self.plan is not None and bool(self.plan.gpus) and _n_left(self.plan) == 0


def forecast(
    candidate: Candidate,
    machine: Machine,
    request: Request,
    speeds: Mapping[str, Speed],
    draft: Candidate | None = None,
    *,
    is_asked: bool = True,
) -> Forecast:
    """The plan for one level and how fast it would be; ``speeds`` by device, ``HOST`` the RAM's,
    without those that nobody knows. A ``draft`` is placed first; where both do not fit, the model
    goes without, and where it takes more than it can bring, unless it ``is_asked`` for."""
    model = footprint(candidate.header)
    try:
        alone = _plan(candidate, machine, request)
    except DoesNotFit as error:
        return Forecast(candidate, None, refusal=str(error))
    speed = tokens_per_s(model, alone, speeds)
    if draft is None:
        return Forecast(candidate, alone, speed)
    try:
        placed = _plan(draft, machine, request_for_draft(request, draft.header))
        plan = _plan(candidate, *beside(machine, request, placed))
    except DoesNotFit as error:
        without = Draft(draft, None, without_draft(error))
        return Forecast(candidate, alone, speed, draft=without)
    if not is_asked and not may_pay(alone, plan):
        without = Draft(draft, None, in_place_of_layers(alone, plan, is_asked=False))
        return Forecast(candidate, alone, speed, draft=without)
    speed = tokens_per_s(model, plan, speeds)
    return Forecast(candidate, plan, speed, draft=Draft(draft, placed), alone=alone)


def _plan(candidate: Candidate, machine: Machine, request: Request) -> OffloadPlan:
    """Raises DoesNotFit."""
    return make_plan(replace(footprint(candidate.header), name=candidate.called), machine, request)


def tokens_per_s(model: Footprint, plan: OffloadPlan, speeds: Mapping[str, Speed]) -> float | None:
    """How many tokens are decoded in a second, about; None where nothing is read, or from a device
    whose speed is not known."""
    read = bytes_read(model, plan)
    if not read.keys() <= speeds.keys():
        return None
    seconds = sum(n_bytes / speeds[device].bytes_per_s for device, n_bytes in read.items())
    return EFFICIENCY / seconds if seconds > 0 else None


def bytes_read(model: Footprint, plan: OffloadPlan) -> dict[str, float]:
    """What each device reads for one token: the CPU has the first layers, the GPUs the following
    ones in their order, and the output counts as the last."""
    parts = [_active_bytes(layer, model) for layer in model.layers]
    parts.append(model.output_bytes)
    read, first = {}, 0
    for share in (plan.host, *plan.gpus):
        own = parts[first : first + share.n_layers]
        read[share.device] = sum(own) + HALF_FULL * share.kv_bytes
        first += share.n_layers
    return read


def _active_bytes(layer: Layer, model: Footprint) -> float:
    """Of a layer's weights, those that one token needs."""
    used = model.n_expert_used / model.n_expert if model.n_expert else 1.0
    return layer.weights_bytes - (1 - used) * layer.expert_bytes


@dataclass(frozen=True)
class Choice:
    """The level to take: ``now``, as it can be had; and ``later`` a better one that must first be
    converted. None where there is none."""

    now: Forecast | None
    later: Forecast | None

    @property
    def first(self) -> Forecast | None:
        """The one to point at."""
        return self.now or self.later


def choose(forecasts: Sequence[Forecast]) -> Choice:
    """The best of the levels on this disk or ready-made; of all where none of those fits.

    Better is one that puts more layers on GPUs, or as many of a larger level; one that needs an
    importance matrix must put more of them there.
    """
    had = best([found for found in forecasts if found.candidate.origin != CONVERTED])
    plain, needy = best(forecasts), best(forecasts, needs_imatrix=True)
    now = had or plain
    later = needy if _on_gpus(needy) > _on_gpus(plain) else plain
    is_better = later is not None and (now is None or _merit(later) > _merit(now))
    return Choice(now, later if is_better else None)


def _on_gpus(found: Forecast | None) -> float:
    """More is better; least where there is none."""
    return -math.inf if found is None else _merit(found)[0]


def best(forecasts: Sequence[Forecast], *, needs_imatrix: bool = False) -> Forecast | None:
    """Of those that need an importance matrix to be converted, or of those that do not, the largest
    that is whole on GPUs, else the one with the most layers there, else the largest that fits at
    all; of equals the last. An unquantized one only where there is no other."""
    fitting = [f for f in forecasts if f.plan and f.candidate.needs_imatrix == needs_imatrix]
    quantized = [f for f in fitting if f.candidate.level not in UNQUANTIZED] or fitting
    return max(reversed(quantized), key=_merit, default=None)


def _merit(found: Forecast) -> tuple[int, int]:
    plan = found.alone or found.plan
    n_left = _n_left(plan) if plan is not None else 0
    return -n_left, found.candidate.size_bytes


def _n_left(plan: OffloadPlan) -> int:
    return plan.n_layers - plan.n_gpu_layers
