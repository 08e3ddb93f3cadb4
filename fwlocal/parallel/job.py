"""A prompt to answer, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from fwlocal.answer import Result
from fwlocal.errors import FwlocalError
from fwlocal.sampling import SamplingParams


@dataclass(frozen=True)
class Job:
    """``tokens`` are the prompt's; ``sampling`` has its seed; ``max_tokens`` None is all that the
    context holds. ``key`` is the caller's own."""

    key: int
    tokens: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finished:
    """The answer to the job ``key``."""

    key: int
    result: Result


@dataclass(frozen=True)
class Failed:
    """Why there is no answer to the job ``key``."""

    key: int
    error: FwlocalError
