"""An answer: its pieces as they come, and what is known when it has ended."""

from __future__ import annotations

import bisect
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fwlocal.pieces import PieceStream, n_spelling, spelled
from fwlocal.prompts import Message

FinishReason = Literal["stop", "length", "interrupt"]


class Speller(Protocol):
    """What of ``fwlocal.llama.Model`` is needed here."""

    def is_eog(self, token: int) -> bool: ...
    def spelling(self, token: int) -> str: ...
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
class TopLogprob:
    """A token that might have been said: ``logprob`` is the natural logarithm of its probability
    before any sampling. ``bytes`` are what it spells, which may be no whole character; ``text`` has
    a replacement mark then. A control token spells nothing, and ``text`` is its name."""

    token: int
    text: str
    logprob: float
    bytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenLogprob:
    """A token that was said, and the most likely ones in its place, best first; the rest as in
    TopLogprob."""

    token: int
    text: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()
    bytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Result:
    """What is known once an answer ends. ``tokens`` spell ``text`` as far as whole tokens do; those
    of an answer that was cut may end in the middle of a character, which ``text`` leaves out.

    ``logprobs``, where asked for, are of the tokens that spell ``text``. ``n_dropped`` is of an
    answer that went on: so many characters of what it had said belong to a stop string. Of the
    ``reused_tokens`` of the prompt ``n_restored`` were evaluated by an earlier engine, and came
    from the disk. Of ``n_drafted`` tokens that were guessed ahead ``n_accepted`` were right.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    reused_tokens: int
    seed: int
    timings: Timings
    logprobs: tuple[TokenLogprob, ...] = ()
    n_dropped: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    n_restored: int = 0

    @property
    def message(self) -> Message:
        """The answer as the assistant's turn of a conversation; what was cut stays as it is, so
        that it can go on."""
        text = self.text.rstrip() if self.finish_reason == "stop" else self.text
        return Message("assistant", text, self.tokens)


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
    """An answer as it grows: its tokens, the text that is certain, and why it ended.

    One that goes on has ``said`` something, and ends in ``half`` a character, as in PieceStream.
    """

    def __init__(
        self, stop: Sequence[str], limit: int, *, said: str = "", half: bytes = b""
    ) -> None:
        self.limit = limit
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.n_tokens = 0
        self._texts: list[str] = []
        self.finish_reason: FinishReason | None = None
        self._half = half
        self._pieces = PieceStream(stop, said=said, half=half)

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

    def note(self, logprobs: tuple[float, list[tuple[int, float]]], vocabulary: Speller) -> None:
        """Add the logprob of the token taken last, and the likeliest in its place with theirs."""
        own, likeliest = logprobs
        said = _top_logprob(self.tokens[-1], own, vocabulary)
        top = tuple(_top_logprob(token, value, vocabulary) for token, value in likeliest)
        self.logprobs.append(TokenLogprob(said.token, said.text, own, top, said.bytes))

    def end(self) -> str:
        """What was held back."""
        self._texts.append(self._pieces.finish())
        return self._texts[-1]

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._texts)

    def spoken_tokens(self, vocabulary: Speller) -> tuple[int, ...]:
        """The tokens that spell the beginning of the text, less the white space at its end; all of
        them where it was cut."""
        if self.finish_reason != "stop":
            return tuple(self.tokens)
        pieces = [vocabulary.piece(token) for token in self.tokens]
        return tuple(self.tokens[: n_spelling(pieces, self.text.rstrip(), self._half)])

    def spoken_logprobs(self, vocabulary: Speller) -> tuple[TokenLogprob, ...]:
        """Of the tokens that it takes to spell all of the text, without those of a stop string."""
        if not self._pieces.stopped:
            return tuple(self.logprobs)
        pieces = [self._half, *map(vocabulary.piece, self.tokens)]

        def n_characters(n_tokens: int) -> int:
            return len(spelled(pieces[: n_tokens + 1])[0])

        counts = range(len(self.tokens) + 1)
        n_needed = bisect.bisect_left(counts, len(self.text), key=n_characters)
        return tuple(self.logprobs[:n_needed])

    @property
    def n_dropped(self) -> int:
        """As in PieceStream."""
        return self._pieces.n_dropped


def _top_logprob(token: int, logprob: float, vocabulary: Speller) -> TopLogprob:
    data = vocabulary.piece(token)
    text = data.decode("utf-8", "replace") if data else vocabulary.spelling(token)
    return TopLogprob(token, text, logprob, tuple(data))
