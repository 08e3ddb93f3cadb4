"""From a prompt to an answer: prefill, decode, and the KV cache reused between them.

``Engine.generate`` and ``Engine.chat`` return a Generation: an iterator over the answer's text,
with the finish reason and the timings at its end. The chat, the one-shot pipe and the benchmark
are its readers. Which file, which format and which context come from ``fwlocal.loader``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fwlocal import llama
from fwlocal.answer import Answer, Generation, Result, Timings
from fwlocal.chatting import Chatting
from fwlocal.draft import Drafting, Speculation
from fwlocal.encoding import continuation, encode
from fwlocal.errors import DoesNotFit, UsageError
from fwlocal.interrupts import Interrupt
from fwlocal.kv_cache import KVCache
from fwlocal.pieces import spelled, start_of
from fwlocal.prefix_cache import NoPrefixes, Prefixes
from fwlocal.prompts import Message, Render, Segment, as_messages, prompt_of
from fwlocal.sampling import PENALTY_LAST_N, SamplingParams

ANSWER_ROOM = 1024  # tokens kept free for an answer when the context's size is ours to choose
MAX_LOGPROBS = 20  # alternatives for each token, as in OpenAI's API
_MOST_BYTES = 4  # of a character in UTF-8


class EngineLike(Protocol):
    """What callers may use of an engine, in this process or in one of its own
    (``fwlocal.loader.isolation``); see Engine for what it means."""

    system: str | None
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    interrupt: Interrupt
    load_s: float

    def __enter__(self) -> EngineLike: ...
    def __exit__(self, *_: object) -> None: ...
    def close(self) -> None: ...
    def reset(self) -> None: ...
    @property
    def limit(self) -> int: ...
    def prompt_tokens(self, messages: Iterable[Message | dict[str, str]]) -> list[int]: ...
    def text_tokens(self, text: str) -> list[int]: ...
    def count(self, messages: Iterable[Message | dict[str, str]]) -> int: ...
    def chat(
        self,
        messages: Iterable[Message | dict[str, str]],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        may_shift: bool = False,
        logprobs: int = 0,
    ) -> Generation: ...
    def generate(
        self,
        prompt: Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        said: str = "",
        may_shift: bool = False,
        logprobs: int = 0,
    ) -> Generation: ...


class Engine(Chatting):
    """A loaded model, its prompt format and one KV cache; not for use by two threads at once.

    ``cache`` is empty and made for ``model``; ``system`` is the model's own system text, for
    callers who want it; ``sampling`` and ``max_tokens`` hold where a call names none. ``drafting``
    guesses tokens ahead, and ``prefixes`` are prompts evaluated before; the answers are the same
    without both.
    """

    def __init__(
        self,
        model: llama.Model,
        cache: KVCache,
        *,
        render: Render,
        stop: Sequence[str] = (),
        system: str | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        interrupt: Interrupt | None = None,
        load_s: float = 0.0,
        drafting: Drafting | None = None,
        prefixes: Prefixes | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        self.stop = tuple(stop)
        self.system = system
        self.sampling = sampling or SamplingParams()
        self.max_tokens = max_tokens
        self.interrupt = interrupt or Interrupt()
        self.load_s = load_s
        self._drafting = drafting or Drafting.off()
        self._prefixes = prefixes or NoPrefixes()
        self._render = render
        self._running: Generation | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the context and the model, and what drafts for it, each also where another fails.
        What is still being written to the disk is waited for last, which Ctrl-C cuts short."""
        with contextlib.ExitStack() as rest:
            rest.callback(self._prefixes.close)
            rest.callback(self.model.close)
            rest.callback(self.cache.close)
            rest.callback(self._drafting.close)
            self._end_running()

    def reset(self) -> None:
        """Forget the KV cache."""
        self._end_running()
        self.cache.clear()

    @property
    def limit(self) -> int:
        """Tokens of prompt and answer that the context can grow to."""
        return self.cache.limit

    def prompt_segments(self, messages: Iterable[Message | dict[str, str]]) -> tuple[Segment, ...]:
        """The prompt that asks for the answer to ``messages``, or for the rest of it."""
        return prompt_of(self._render, as_messages(messages))

    def prompt_tokens(self, messages: Iterable[Message | dict[str, str]]) -> list[int]:
        """The ids of that prompt."""
        return encode(self.model, self.prompt_segments(messages))

    def text_tokens(self, text: str) -> list[int]:
        """The ids of a raw prompt, in which control tokens are parsed."""
        return encode(self.model, [Segment(text, scaffold=True)])

    def generate(
        self,
        prompt: Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        said: str = "",
        may_shift: bool = False,
        logprobs: int = 0,
    ) -> Generation:
        """The continuation of a prompt's token ids; see Chatting."""
        max_tokens = self.max_tokens if max_tokens is None else max_tokens
        if max_tokens is not None and max_tokens < 1:
            raise UsageError(f"max_tokens is {max_tokens}; it must be at least 1")
        if not 0 <= logprobs <= MAX_LOGPROBS:
            raise UsageError(f"logprobs is {logprobs}; it must be between 0 and {MAX_LOGPROBS}")
        if not prompt:
            raise UsageError("the prompt is empty")
        self._end_running()
        started = time.perf_counter()
        self.cache.make_room(len(prompt), ANSWER_ROOM if max_tokens is None else max_tokens)
        self.load_s += time.perf_counter() - started
        params = (sampling or self.sampling).seeded()
        stages = [(stage.name, stage.arguments) for stage in params.stages]
        sampler = llama.Sampler(self.model, stages, params.grammar)
        sampler.remember(prompt[-PENALTY_LAST_N:])
        if said and params.grammar is not None:
            sampler.go_on(self._tokens_of(said, prompt))
        room = self.limit - len(prompt)
        limit = room if max_tokens is None else min(max_tokens, room)
        _, half = spelled(map(self.model.piece, prompt[-_MOST_BYTES:]))
        answer = Answer(stop, limit, said=said, half=half)
        order = _Order(list(prompt), params.seed or 0, may_shift, logprobs)
        self._running = Generation(self._steps(sampler, answer, order))
        return self._running

    def _tokens_of(self, said: str, prompt: Sequence[int]) -> Sequence[int]:
        """The tokens at the end of ``prompt`` that spell ``said``, and any half character; where
        its beginning shares a token with what stands before it, tokens that spell it."""
        start = start_of(said, [self.model.piece(token) for token in prompt])
        return continuation(self.model, said) if start is None else prompt[start:]

    def _steps(
        self, sampler: llama.Sampler, answer: Answer, order: _Order
    ) -> Generator[str, None, Result]:
        clock: Callable[[], float] = time.perf_counter
        started = clock()
        prompt = order.prompt
        held = self.cache.keep_common(prompt, may_shift=order.may_shift)
        reused = self._prefixes.restore(self.cache, prompt, held)
        evaluated = self.cache.evaluate(prompt[reused:])
        self.cache.context.synchronize()
        n_read = len(self.cache.tokens) - reused  # fewer than there are, where it was stopped
        read_s = clock() - started
        if evaluated:
            self._prefixes.keep(self.cache, len(prompt) - reused, read_s)
        resumed = clock()
        speculation = self._drafting.speculation(
            self.cache, sampler, prompt, limit=answer.limit, is_eog=self.model.is_eog
        )
        prefill_s = read_s + clock() - resumed  # a draft model reads the prompt, too
        ttft_s = clock() - started
        decode_s = 0.0  # without the time that the reader takes between pieces
        with contextlib.closing(speculation.tokens()) as tokens:
            while evaluated and not self.interrupt.is_set():
                resumed = clock()
                try:
                    text = answer.take(next(tokens), self.model)
                except DoesNotFit:
                    answer.finish_reason = "length"
                    break
                self._note_logprobs(answer, speculation, order.n_logprobs)
                if answer.n_tokens == 1:
                    ttft_s = clock() - started
                else:
                    decode_s += clock() - resumed
                if text:
                    yield text
                if answer.finish_reason:
                    break
        if text := answer.end():
            yield text
        timings = Timings(
            load_s=self.load_s,
            ttft_s=ttft_s,
            prefill_s=prefill_s,
            decode_s=decode_s,
            prefill_tps=_rate(n_read, prefill_s),
            decode_tps=_rate(answer.n_tokens - 1, decode_s),
        )
        return Result(
            text=answer.text,
            tokens=answer.spoken_tokens(self.model),
            finish_reason=answer.finish_reason or "interrupt",
            prompt_tokens=len(prompt),
            completion_tokens=answer.n_tokens,
            reused_tokens=reused,
            seed=order.seed,
            timings=timings,
            logprobs=answer.spoken_logprobs(self.model),
            n_dropped=answer.n_dropped,
            n_drafted=speculation.figures.n_drafted,
            n_accepted=speculation.figures.n_accepted,
            n_restored=reused if reused > held else 0,
        )

    def _note_logprobs(self, answer: Answer, speculation: Speculation, n_logprobs: int) -> None:
        """Of the token that was taken last, unless it ended the answer."""
        if n_logprobs and len(answer.logprobs) < len(answer.tokens):
            logits = speculation.logits()
            answer.note(llama.logprobs(logits, answer.tokens[-1], n_logprobs), self.model)

    def _end_running(self) -> None:
        """An answer that was left half read must not go on beside a new one."""
        if self._running is not None:
            self._running.close()
        self._running = None


@dataclass(frozen=True)
class _Order:
    """What is to be answered, and how."""

    prompt: list[int]
    seed: int
    may_shift: bool
    n_logprobs: int


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
