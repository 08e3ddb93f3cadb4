"""What a run is to measure, and under which keys its measurements are kept."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fwlocal.bench.answers import MAX_TOKENS, Prompt
from fwlocal.bench.kept import key_of
from fwlocal.bench.measured import Entrant
from fwlocal.bench.result import Machine, Settings
from fwlocal.bench.state import Level
from fwlocal.bench.text import Text
from fwlocal.bench.verdict import Wishes
from fwlocal.loader import EngineOptions
from fwlocal.oneshot.batch_lines import Asked

DEFAULT_CHUNKS = 32  # of the text, where nothing else ends the reading


@dataclass(frozen=True)
class Order:
    """One run. ``entrants`` are best first, ``unreadable`` other files and what is wrong with them.

    ``reference`` is the label that the others are held against, None for the best that fits.
    ``text`` None measures no quality, ``prompts`` () asks nothing; without ``settings.tests`` no
    speed is measured, and ``cold`` also times loads of files that are not in memory. ``fresh``
    measures anew what was measured before. ``run_id`` is a name at random.
    """

    model: str
    entrants: tuple[Entrant, ...]
    options: EngineOptions
    settings: Settings
    text: Text | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    prompts: tuple[Asked, ...] = ()
    prompts_path: Path | None = None
    max_tokens: int = MAX_TOKENS
    wishes: Wishes = field(default_factory=Wishes)
    cold: bool = True
    fresh: bool = False
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Keys:
    """The keys of one run's measurements; ``build`` is llama.cpp's."""

    order: Order
    machine: Machine
    build: str

    def rounds(self, level: Level) -> str:
        """Of a level's speed."""
        tests = [asdict(test) for test in self.order.settings.tests]
        return self._key("rounds", level, cold=self.order.cold, tests=tests)

    def scores(self, level: Level, reference: Level, text: Text) -> str:
        """Of a level's distance from the reference."""
        n_ctx = self.order.settings.n_ctx
        return self._key("scores", level, of=reference.sha256, text=text.sha256, n_ctx=n_ctx)

    def answers(self, level: Level, prompts: tuple[Prompt, ...]) -> str:
        """Of a level's answers."""
        asked = [(p.tokens, p.stop, p.max_tokens, p.grammar) for p in prompts]
        return self._key("answers", level, prompts=asked, max_tokens=self.order.max_tokens)

    def _key(self, kind: str, level: Level, **facts: object) -> str:
        """With what every figure depends on: the file, the machine, the build, the engine."""
        machine = self.machine
        return key_of(
            kind=kind,
            file=(level.sha256, level.n_copies_before),
            n_gpu_layers=level.n_gpu_layers,
            build=self.build,
            machine=[machine.cpu, machine.n_threads, machine.ram_bytes, machine.gpus],
            options=asdict(self.order.options),
            **facts,
        )
