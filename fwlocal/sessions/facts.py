"""A change of a conversation as the event that is kept, with how an answer came about."""

from __future__ import annotations

from dataclasses import asdict

from fwlocal.answer import Result
from fwlocal.conversation import Change
from fwlocal.sampling import SamplingParams
from fwlocal.sessions.events import Event, Said, Speaker


def event_of(change: Change, time: str, speaker: Speaker, sampling: SamplingParams) -> Event:
    """The event; ``time`` is ISO 8601, UTC, the others are those of an answer."""
    result = change.result
    return Event(
        kind=change.kind,
        time=time,
        text=change.text,
        n_turns=change.n_turns,
        said=_said(result, speaker, sampling) if result else None,
        n_dropped=result.n_dropped if result else 0,
    )


def _said(result: Result, speaker: Speaker, sampling: SamplingParams) -> Said:
    chosen = {key: value for key, value in asdict(sampling).items() if value is not None}
    chosen.pop("seed", None)  # the one that was drawn is the result's
    return Said(
        speaker=speaker,
        seed=result.seed,
        sampling=chosen,
        finish_reason=result.finish_reason,
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        reused_tokens=result.reused_tokens,
        timings={key: round(value, 4) for key, value in asdict(result.timings).items()},
    )
