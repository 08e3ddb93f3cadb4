"""What comes out of one measurement, before anything is reckoned from it. Frozen data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fwlocal.bench.result import DeviceBytes, SpeedTest
from fwlocal.gguf import GGUFHeader
from fwlocal.store import ModelFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Entrant:
    """A level that takes part: its label in the table, its file, and the file's checked header.
    ``is_derived`` when it was quantized from another quantized file, which it cannot be better
    than."""

    label: str
    file: ModelFile
    header: GGUFHeader
    is_derived: bool = False


@dataclass(frozen=True)
class EnergyUsed:
    """Joules that the counters called ``source`` counted during all prefill and all decode tests,
    and how many tokens those were."""

    source: str
    prefill_j: float
    n_prefilled: int
    decode_j: float
    n_decoded: int


@dataclass(frozen=True)
class Round:
    """One level's part of one round: loaded, every test run once, freed; of a round that was
    stopped, the tests that were done. ``speeds`` in tok/s; ``load_cold_s`` None where the file
    could not be put out of memory before. ``run_id`` tells the run that ended it, by a name at
    random, and ``started`` when it began (ISO 8601, UTC); "" where nobody noted it."""

    speeds: tuple[tuple[SpeedTest, float], ...]
    load_warm_s: float
    load_cold_s: float | None
    peak_rss_bytes: int | None
    n_gpu_layers: int
    n_layers: int
    devices: tuple[DeviceBytes, ...]
    energy: EnergyUsed | None = None
    run_id: str = ""
    started: str = ""


@dataclass(frozen=True)
class ChunkScores:
    """How a level reads one chunk of the text beside the reference: arrays of one length, an entry
    for each position that is scored. ``nll`` and ``reference_nll`` are the negative logarithms of
    the right token's probability, ``kld`` the divergence in nats, ``dp`` the level's probability of
    the right token less the reference's, ``same_top`` whether both find the same token likeliest.
    Where ``is_nan`` is set, the logits of one of them are no numbers, and the rest is 0.
    """

    nll: Floats
    reference_nll: Floats
    kld: Floats
    dp: Floats
    same_top: Bools
    is_nan: Bools
