"""What an engine in a process of its own is asked, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fwlocal.sampling import SamplingParams


@dataclass(frozen=True)
class Load:
    """Load what ``job`` describes; answered by Progress and Ready."""

    job: object
    verbose: bool


@dataclass(frozen=True)
class Call:
    """Call a method of the engine; answered by Returned."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Stream:
    """Go through the answer that was begun last; answered by pieces of text and, Returned, the
    Result. ``signal`` is one that stopped it before it began."""

    signal: int | None


@dataclass(frozen=True)
class Progress:
    """The fraction loaded."""

    fraction: float


@dataclass(frozen=True)
class Ready:
    """The engine is loaded: what is to be known of it here; ``extra`` is the loader's own."""

    system: str | None
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    limit: int
    load_s: float
    extra: object = None


@dataclass(frozen=True)
class Returned:
    """What a method returned, or the Result of an answer."""

    value: Any
