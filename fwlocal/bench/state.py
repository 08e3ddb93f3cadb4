"""What is known of each level so far, while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fwlocal.bench.measured import ChunkScores, Entrant, Round
from fwlocal.bench.result import Machine, SpeedTest, TextFacts
from fwlocal.bench.unchanged import Stamps, check_unchanged


@dataclass
class Level:
    """One entrant: the SHA-256 of its file, as which ``stamps`` it was hashed, how many copies of
    it come before, the layers that its plan puts on GPUs, the speed tests that it can be put to,
    what was measured of it, and, in ``problem``, why nothing more will be. The last of ``rounds``
    may lack tests."""

    entrant: Entrant
    sha256: str = ""
    stamps: Stamps = ()
    tests: tuple[SpeedTest, ...] = ()
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

    @property
    def whole_rounds(self) -> list[Round]:
        """Those with every test."""
        return [one for one in self.rounds if len(one.speeds) >= len(self.tests)]

    def check_file(self) -> None:
        """Raise BadModelFile where its file is no longer what was hashed."""
        check_unchanged(self.entrant.file.path, self.stamps)


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
