"""An answer: its pieces as they come, and what is known when it has ended."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fwlocal.pieces import PieceStream
from fwlocal.prompts import Message

FinishReason = Literal["stop", "length", "interrupt"]


class Speller(Protocol):
    """What of ``fwlocal.llama.Model`` is needed here."""

    def is_eog(self, token: int) -> bool: ...
    def piece(self, token: int) -> bytes: ...


@dataclass(frozen=True)
class Timings:
    """Seconds and tokens per second. ``ttft_s`` is the time to first token, load not counted."""

    load_s: float
    ttft_s: float
    prefill_s: float
    decode_s: float
    prefill_tps: float
    decode_tps: float


@dataclass(frozen=True)
class Result:
    """What is known once an answer ends. ``tokens`` spell ``text`` as far as whole tokens do."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    reused_tokens: int
    seed: int
    timings: Timings

    @property
    def message(self) -> Message:
        """The answer as the assistant's turn of a conversation."""
        return Message("assistant", self.text.rstrip(), self.tokens)


class Generation(Iterator[str]):
    """The pieces of one answer; ``result`` is there once they are exhausted."""

    def __init__(self, steps: Generator[str, None, Result]) -> None:
        self._steps = steps
        self._result: Result | None = None

    def __next__(self) -> str:
        try:
            return next(self._steps)
        except StopIteration as stop:
            self._result = self._result or stop.value
            raise StopIteration from None

    @property
    def result(self) -> Result:
        """Finish reason, counts and timings; RuntimeError before the last piece was taken."""
        if self._result is None:
            raise RuntimeError("the answer has not ended; take all of its pieces first")
        return self._result

    def close(self) -> None:
        """Abandon the rest of the answer."""
        self._steps.close()


class Answer:
    """An answer as it grows: its tokens, the text that is certain, and why it ended."""

    def __init__(self, stop: Sequence[str], limit: int) -> None:
        self.limit = limit
        self.tokens: list[int] = []
        self.n_tokens = 0
        self._texts: list[str] = []
        self.finish_reason: FinishReason | None = None
        self._pieces = PieceStream(stop)

    def take(self, token: int, vocabulary: Speller) -> str:
        """Add a token; the text that it makes certain."""
        self.n_tokens += 1
        if vocabulary.is_eog(token):
            self.finish_reason = "stop"
            return ""
        self.tokens.append(token)
        text = self._pieces.feed(vocabulary.piece(token))
        if self._pieces.stopped:
            self.finish_reason = "stop"
        elif self.n_tokens >= self.limit:
            self.finish_reason = "length"
        self._texts.append(text)
        return text

    def end(self) -> str:
        """What was held back."""
        self._texts.append(self._pieces.finish())
        return self._texts[-1]

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._texts)

    def spoken_tokens(self, vocabulary: Speller) -> tuple[int, ...]:
        """The tokens that spell the beginning of the text, less the white space at its end."""
        text, pieces = self.text.rstrip(), [vocabulary.piece(token) for token in self.tokens]
        while not text.startswith(b"".join(pieces).decode("utf-8", "replace")):
            pieces.pop()
        return tuple(self.tokens[: len(pieces)])
