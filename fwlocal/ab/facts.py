"""What is told of each of two answers: its size and speed, and how far both are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fwlocal.answer import Result
from fwlocal.files import sized

_ENDS = {"length": ", cut", "interrupt": ", interrupted"}


@dataclass(frozen=True)
class Spoken:
    """One side's answer, as far as it is compared: its text, its tokens' ids and how many tokens
    it took in all."""

    text: str
    tokens: Sequence[int]
    n_tokens: int


def facts(label: str, size_bytes: int, result: Result) -> list[str]:
    """The lines under an answer. The speeds are the engine's own: what the other one
    takes in between is not counted."""
    t, count = result.timings, result.completion_tokens
    speed = f", {t.decode_tps:.1f} tok/s" if t.decode_tps else ""
    lines = [
        f"{label}, {sized(size_bytes)}",
        f"{count} token{'s' * (count != 1)}{speed}{_ENDS.get(result.finish_reason, '')}",
    ]
    if count:
        lines.append(
            f"first token after {t.ttft_s:.2f} s, for a prompt of {result.prompt_tokens} tokens"
        )
    return lines


def agreement(own: Spoken, other: Spoken, difference: int | None, *, same_tokens: bool) -> str:
    """How far an answer is the same as the other one, whose first difference is the character
    ``difference``: in tokens where both have ``same_tokens``, else in characters."""
    if own.text == other.text:
        return "equal" if own.text else "nothing was said"
    if difference is None:
        return "the same as far as both go"
    if not same_tokens:
        return f"the same up to character {difference} of {len(own.text)}"
    n_same = _n_common(own.tokens, other.tokens)
    if not n_same:
        return "different from the first token on"
    if difference == len(own.text):
        return f"the same up to its end, token {n_same}"
    return f"the same up to token {n_same} of {own.n_tokens}"


def _n_common(left: Sequence[int], right: Sequence[int]) -> int:
    """With how many of the same ids both begin."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))
