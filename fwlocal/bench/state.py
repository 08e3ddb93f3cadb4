"""What is known of each level so far, while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fwlocal.bench.measured import ChunkScores, Entrant, Round
from fwlocal.bench.result import Machine, TextFacts


@dataclass
class Level:
    """One entrant: the SHA-256 of its file, how many copies of it come before, the layers that its
    plan puts on GPUs, what was measured of it, and, in ``problem``, why nothing more will be."""

    entrant: Entrant
    sha256: str = ""
    n_copies_before: int = 0
    n_gpu_layers: int = 0
    problem: str = ""
    rounds: list[Round] = field(default_factory=list)
    scores: list[ChunkScores] = field(default_factory=list)
    answers: tuple[tuple[int, ...], ...] | None = None

    @property
    def label(self) -> str:
        """Its name in the table."""
        return self.entrant.label


@dataclass
class State:
    """All levels, best first; ``reference`` is one of them, or None where nothing is held against
    it. ``unreadable`` are files that are no entrants, and why."""

    machine: Machine
    levels: Sequence[Level]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    reference: Level | None = None
    text: TextFacts | None = None

    @property
    def sound(self) -> list[Level]:
        """Those that can be measured."""
        return [level for level in self.levels if not level.problem]
