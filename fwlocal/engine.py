"""From a prompt to an answer: prefill, decode, and the KV cache reused between them.

``Engine.generate`` and ``Engine.chat`` return a Generation: an iterator over the answer's text,
with the finish reason and the timings at its end. The chat, the one-shot pipe and the benchmark
are its readers. Which file, which format and which context come from ``fwlocal.loader``.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace

from fwlocal import llama
from fwlocal.answer import Answer, Generation, Result, Timings
from fwlocal.encoding import encode
from fwlocal.errors import PromptTooLong, UsageError
from fwlocal.interrupts import Interrupt
from fwlocal.offload import default_n_ctx
from fwlocal.prompts import Message, Render, Segment
from fwlocal.sampling import PENALTY_LAST_N, SamplingParams

ANSWER_ROOM = 1024  # tokens kept free for an answer when the context's size is ours to choose


class Engine:
    """A loaded model, its prompt format and one KV cache; not for use by two threads at once.

    ``context`` gives all settings of the context but its size: ``n_ctx`` 0 there lets it grow with
    the prompts up to what the model was trained on.
    """

    def __init__(
        self,
        model: llama.Model,
        context: llama.ContextOptions,
        *,
        render: Render,
        stop: Sequence[str] = (),
        system: str | None = None,
        sampling: SamplingParams | None = None,
        interrupt: Interrupt | None = None,
        load_s: float = 0.0,
    ) -> None:
        self.model = model
        self.stop = tuple(stop)
        self.system = system  # the model's own system text, for callers who want it
        self.sampling = sampling or SamplingParams()
        self.interrupt = interrupt or Interrupt()
        self.load_s = load_s
        self._render = render
        self._options = context
        self._context: llama.Context | None = None
        self._cached: list[int] = []  # the tokens whose keys and values the context holds
        self._running: Generation | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the context and the model."""
        self._end_running()
        self._drop_context()
        self.model.close()

    @property
    def n_ctx(self) -> int:
        """Tokens that the context holds, or will hold at first."""
        if self._context is not None:
            return self._context.n_ctx
        return self._options.n_ctx or default_n_ctx(self.model.n_ctx_train)

    def reset(self) -> None:
        """Forget the KV cache."""
        self._end_running()
        self._keep(0)

    def prompt_segments(self, messages: Iterable[Message | dict[str, str]]) -> tuple[Segment, ...]:
        """The prompt that asks for the answer to ``messages``."""
        return self._render([_as_message(message) for message in messages])

    def prompt_tokens(self, messages: Iterable[Message | dict[str, str]]) -> list[int]:
        """The ids of that prompt."""
        return encode(self.model, self.prompt_segments(messages))

    def chat(
        self,
        messages: Iterable[Message | dict[str, str]],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Generation:
        """The answer to a conversation, in the model's prompt format.

        Messages are Message or ``{"role": ..., "content": ...}``. Raises PromptTooLong, UsageError
        and BadGrammar here, before anything is generated.
        """
        tokens = self.prompt_tokens(messages)
        return self.generate(tokens, sampling=sampling, max_tokens=max_tokens, stop=self.stop)

    def generate(
        self,
        prompt: Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generation:
        """The continuation of a prompt's token ids.

        It ends at a token that ends an answer, at a ``stop`` string (never shown), after
        ``max_tokens`` or at the end of the context ("length"), or when ``interrupt`` is set.
        """
        if max_tokens is not None and max_tokens < 1:
            raise UsageError(f"max_tokens is {max_tokens}; it must be at least 1")
        if not prompt:
            raise UsageError("the prompt is empty")
        self._end_running()
        params = (sampling or self.sampling).seeded()
        context = self._context_for(len(prompt), max_tokens)
        stages = [(stage.name, stage.arguments) for stage in params.stages]
        sampler = llama.Sampler(self.model, stages, params.grammar)
        sampler.remember(prompt[-PENALTY_LAST_N:])
        answer = Answer(stop, min(max_tokens or context.n_ctx, context.n_ctx - len(prompt)))
        steps = self._steps(context, sampler, list(prompt), answer, params.seed or 0)
        self._running = Generation(steps)
        return self._running

    def _steps(
        self,
        context: llama.Context,
        sampler: llama.Sampler,
        prompt: list[int],
        answer: Answer,
        seed: int,
    ) -> Generator[str, None, Result]:
        started = time.perf_counter()
        try:
            reused = self._keep(min(_common_prefix(self._cached, prompt), len(prompt) - 1))
            evaluated = self._evaluate(context, prompt[reused:])
            context.synchronize()
            prefilled = first = time.perf_counter()
            while evaluated and not self.interrupt.is_set():
                token = sampler.sample(context)
                if not answer.n_tokens:
                    first = time.perf_counter()
                if text := answer.take(token, self.model):
                    yield text
                if answer.finish_reason:
                    break
                context.decode_one(token)
                self._cached.append(token)
            if text := answer.end():
                yield text
        finally:
            sampler.close()
        prefill_s, decode_s = prefilled - started, time.perf_counter() - first
        timings = Timings(
            load_s=self.load_s,
            ttft_s=first - started,
            prefill_s=prefill_s,
            decode_s=decode_s,
            prefill_tps=_rate(len(prompt) - reused, prefill_s),
            decode_tps=_rate(answer.n_tokens - 1, decode_s),
        )
        return Result(
            text=answer.text,
            tokens=answer.spoken_tokens(self.model),
            finish_reason=answer.finish_reason or "interrupt",
            prompt_tokens=len(prompt),
            completion_tokens=answer.n_tokens,
            reused_tokens=reused,
            seed=seed,
            timings=timings,
        )

    def _evaluate(self, context: llama.Context, tokens: Sequence[int]) -> bool:
        """Add ``tokens`` to the cache, a batch at a time; False when interrupted on the way."""
        for start in range(0, len(tokens), context.n_batch):
            batch = tokens[start : start + context.n_batch]
            if self.interrupt.is_set():
                return False
            if not context.decode(batch):
                # Whole micro-batches of it may have been evaluated; they are of use next time.
                self._cached += batch[: context.cached() - len(self._cached)]
                return False
            self._cached += batch
        return True

    def _context_for(self, n_prompt: int, max_tokens: int | None) -> llama.Context:
        """The context, made or grown so that the prompt and an answer fit."""
        n_ctx = self._options.n_ctx
        if not n_ctx:
            room = ANSWER_ROOM if max_tokens is None else max_tokens
            n_ctx = default_n_ctx(self.model.n_ctx_train, n_prompt + room)
        if self._context is not None and self._context.n_ctx < n_ctx and not self._options.n_ctx:
            self._drop_context()
        if n_prompt >= n_ctx:
            hint = (
                f"--n-ctx {self.model.n_ctx_train} would hold it"
                if n_prompt < self.model.n_ctx_train
                else f"the model was trained on {self.model.n_ctx_train} tokens; shorten it"
            )
            raise PromptTooLong(
                f"the prompt has {n_prompt} tokens and the context holds {n_ctx}; {hint}"
            )
        if self._context is None:
            options = replace(self._options, n_ctx=n_ctx)
            self._context = llama.Context(self.model, options, self.interrupt.is_set)
        return self._context

    def _end_running(self) -> None:
        """An answer that was left half read must not go on beside a new one."""
        if self._running is not None:
            self._running.close()
        self._running = None

    def _drop_context(self) -> None:
        if self._context is not None:
            self._context.close()
        self._context, self._cached = None, []

    def _keep(self, n_tokens: int) -> int:
        """Cut the cache down to its first ``n_tokens``; how many it could really keep."""
        if self._context is None or self._context.cached() <= n_tokens:
            return n_tokens
        kept = n_tokens if self._context.truncate(n_tokens) else 0
        del self._cached[kept:]
        return kept


def _as_message(message: Message | dict[str, str]) -> Message:
    if isinstance(message, Message):
        return message
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise UsageError(
            'a message is {"role": "system", "user" or "assistant", "content": text}, '
            f"not {message!r}"
        )
    return Message(role, content)  # type: ignore[arg-type]


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
