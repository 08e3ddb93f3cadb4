"""How the next token is chosen: parameters, checked, and the chain of llama.cpp samplers they mean.

The order of the chain is llama.cpp's own (``common/sampling.cpp``): penalties, top-k, top-p, min-p,
temperature, then the draw. This module names samplers; ``fwlocal.llama`` builds them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fwlocal.errors import UsageError

PENALTY_LAST_N = 64  # llama.cpp's window for the repeat penalty
MAX_SEED = 2**32 - 2  # 2**32 - 1 means "random" to llama.cpp

# name -> (least, most) that makes sense; the ends are allowed.
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 100.0),
    "seed": (0, MAX_SEED),
}


@dataclass(frozen=True)
class Stage:
    """One sampler of a chain, by llama.cpp's name for it, and its arguments."""

    name: str
    arguments: tuple[float, ...] = ()


@dataclass(frozen=True)
class SamplingParams:
    """The defaults are llama.cpp's. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 are
    off; ``seed`` None draws a new one; ``grammar`` is GBNF whose root rule is ``root``.

    Raises UsageError for a value outside its range.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None
    grammar: str | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} is {value}; it must be between {least} and {most}")

    def updated(self, changes: Mapping[str, Any]) -> SamplingParams:
        """A copy with every change that is not None."""
        return replace(self, **{name: v for name, v in changes.items() if v is not None})

    def seeded(self) -> SamplingParams:
        """A copy whose seed is a number: the one given, else a random one."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(MAX_SEED))

    def following(self, index: int) -> SamplingParams:
        """A copy with the seed that comes ``index`` later; the same where none is set."""
        if self.seed is None:
            return self
        return replace(self, seed=(self.seed + index) % (MAX_SEED + 1))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The chain; stages that would change nothing are left out. Call on ``seeded()`` params."""
        penalties = Stage("penalties", (PENALTY_LAST_N, self.repeat_penalty, 0.0, 0.0))
        chain = [penalties] if self.repeat_penalty != 1.0 else []
        if self.temperature == 0:
            return (*chain, Stage("greedy"))
        if self.top_k > 0:
            chain.append(Stage("top_k", (self.top_k,)))
        if self.top_p < 1:
            chain.append(Stage("top_p", (self.top_p, 1)))
        if self.min_p > 0:
            chain.append(Stage("min_p", (self.min_p, 1)))
        chain.append(Stage("temp", (self.temperature,)))
        return (*chain, Stage("dist", (self.seed or 0,)))
