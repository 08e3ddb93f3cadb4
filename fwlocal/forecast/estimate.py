"""What a machine would do with a model, level by level: the plan of each, and how fast it decodes.

Pure: headers, a machine and speeds go in. The speed is an estimate. For every token each device
reads the weights of its layers and its part of the KV cache, one device after the other, so

    tok/s = EFFICIENCY / sum over the devices of (bytes read for a token / bandwidth)

with the cache half full, as in the middle of a conversation, and of experts only those that are
used. What crosses the wires between devices and machines is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fwlocal.errors import DoesNotFit
from fwlocal.forecast.cards import Speed
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Machine
from fwlocal.levels import UNQUANTIZED
from fwlocal.offload import Footprint, Layer, OffloadPlan, Request, footprint, make_plan

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
    nobody can convert to it without an importance matrix."""

    level: str
    header: GGUFHeader
    origin: str
    needs_imatrix: bool = False

    @property
    def size_bytes(self) -> int:
        """Of its file, or about."""
        return self.header.file_size_bytes


@dataclass(frozen=True)
class Forecast:
    """What would become of a candidate: ``plan`` None for one that does not fit, for the reason in
    ``refusal``. ``tokens_per_s`` is an estimate."""

    candidate: Candidate
    plan: OffloadPlan | None
    tokens_per_s: float | None = None
    refusal: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether all layers are on GPUs."""
        return self.plan is not None and bool(self.plan.gpus) and _n_left(self.plan) == 0


def forecast(
    candidate: Candidate, machine: Machine, request: Request, speeds: Mapping[str, Speed]
) -> Forecast:
    """The plan for one level and how fast it would be; ``speeds`` by device, ``HOST`` the RAM's."""
    model = footprint(candidate.header)
    try:
        plan = make_plan(model, machine, request)
    except DoesNotFit as error:
        return Forecast(candidate, None, refusal=str(error))
    return Forecast(candidate, plan, tokens_per_s(model, plan, speeds))


def tokens_per_s(model: Footprint, plan: OffloadPlan, speeds: Mapping[str, Speed]) -> float | None:
    """How many tokens are decoded in a second, about; None where nothing is read."""
    read = bytes_read(model, plan)
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


def best(forecasts: Sequence[Forecast]) -> Forecast | None:
    """The level to take: the largest that is whole on GPUs, else the one with the most layers
    there, else the largest that fits at all; of equals the last. None that needs an importance
    matrix, and an unquantized one only where there is no other."""
    fitting = [f for f in forecasts if f.plan is not None and not f.candidate.needs_imatrix]
    quantized = [f for f in fitting if f.candidate.level not in UNQUANTIZED] or fitting
    return max(reversed(quantized), key=_merit, default=None)


def _merit(found: Forecast) -> tuple[int, int]:
    n_left = _n_left(found.plan) if found.plan is not None else 0
    return -n_left, found.candidate.size_bytes


def _n_left(plan: OffloadPlan) -> int:
    return plan.n_layers - plan.n_gpu_layers
