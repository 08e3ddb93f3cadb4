"""Asking a loaded model: once, or several times with other seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fwlocal.answer import Generation, Result
from fwlocal.errors import FwlocalError, Interrupted
from fwlocal.files import sized
from fwlocal.interrupts import catching
from fwlocal.loader import LoadedModel
from fwlocal.model_hash import sha256_of_model
from fwlocal.oneshot.keeping import why_not_kept
from fwlocal.oneshot.record import Question, describe, describe_tokens
from fwlocal.oneshot.writing import Output, Writer, stats_line
from fwlocal.progress import ProgressBar
from fwlocal.prompts import Message
from fwlocal.terminal import inert


@dataclass(frozen=True)
class Request:
    """What is asked. ``turns`` are the conversation; of a raw prompt its one message is the prompt.
    ``system`` None is the model's own, unless ``turns`` begin with one; ``sampling`` are changes to
    the model's; ``stop`` is added to the prompt format's; ``n`` answers get seeds that follow each
    other, None is one answer; ``logprobs`` is how many of the likeliest tokens are recorded."""

    turns: tuple[Message, ...]
    system: str | None
    max_tokens: int | None
    sampling: Mapping[str, Any]
    stop: tuple[str, ...] = ()
    n: int | None = None
    logprobs: int = 0

    def question(self, loaded: LoadedModel) -> Question:
        """What is asked of that model, with all that was left to it."""
        engine = loaded.engine
        return Question(
            messages=_with_system(self, engine.system) if loaded.prompt_format else self.turns,
            prompt_format=loaded.prompt_format,
            sampling=engine.sampling.updated(self.sampling).seeded(),
            max_tokens=engine.max_tokens if self.max_tokens is None else self.max_tokens,
            stop=self.stop,
        )


def answer(loaded: LoadedModel, request: Request, output: Output) -> int:
    """Answer, and return the exit code: 0, or a signal's when one stopped it.

    Raises FwlocalError for an answer that was cut, where ``output`` wants that; all of them are
    written before.
    """
    interrupt = loaded.engine.interrupt
    question = request.question(loaded)
    asked = question
    identify = cache(lambda: identified(loaded, output))

    def describe_it(result: Result) -> dict[str, object]:
        record = describe(result, asked, loaded, identify())
        return {**record, "logprobs": describe_tokens(result)} if request.logprobs else record

    writer = Writer(output, request.n, describe_it)
    results: list[Result] = []
    with catching(interrupt):
        try:
            for index in range(request.n or 1):
                asked = replace(question, sampling=question.sampling.following(index))
                results.append(writer.write(generate(loaded, asked, request.logprobs)))
                if output.stats:
                    unkept = why_not_kept(results[-1], loaded.prefix_bytes)
                    line = stats_line(results[-1], loaded.plan, inert(unkept), loaded.draft)
                    output.stderr.write(f"{line}\n")
                if interrupt.is_set():
                    return interrupt.exit_code
        finally:
            writer.end()
    _tell_cut(results, request, output, loaded.engine.limit)
    return 0


def identified(loaded: LoadedModel, output: Output) -> str | None:
    """The SHA-256 of the model's file; None where a signal came before it was known. A person is
    told of what takes long."""
    interrupt, file = loaded.engine.interrupt, loaded.file

    def progress(fraction: float) -> None:
        if interrupt.is_set():
            raise Interrupted
        if not output.quiet:
            bar.update(fraction)

    size_bytes = loaded.header.file_size_bytes
    with ProgressBar(f"hashing {file.name} ({sized(size_bytes)}), this once") as bar:
        try:
            return sha256_of_model(loaded.file, loaded.header, progress)
        except Interrupted:
            return None


def generate(loaded: LoadedModel, question: Question, logprobs: int = 0) -> Generation:
    """The answer to a question."""
    engine = loaded.engine
    if question.prompt_format is None:
        tokens, stop = engine.text_tokens(question.text), question.stop
    else:
        tokens = engine.prompt_tokens(question.messages)
        stop = (*engine.stop, *question.stop)
    return engine.generate(
        tokens,
        sampling=question.sampling,
        max_tokens=question.max_tokens,
        stop=stop,
        logprobs=logprobs,
    )


def _with_system(request: Request, own: str | None) -> tuple[Message, ...]:
    if request.turns[0].role == "system":
        return request.turns
    system = own if request.system is None else request.system
    return (Message("system", system), *request.turns) if system else request.turns


def _tell_cut(results: list[Result], request: Request, output: Output, limit: int) -> None:
    """Say that an answer was cut: at a limit that nobody asked for, where it breaks a grammar, or
    where that is an error."""
    cut = [(n, result) for n, result in enumerate(results, 1) if result.finish_reason == "length"]
    if not cut:
        return
    number, result = cut[0]
    which = f"answer {number} of {len(results)}" if len(results) > 1 else "the answer"
    is_full = result.prompt_tokens + result.completion_tokens >= limit
    more = "--n-ctx" if is_full else "--max-tokens"
    why = ", where the context was full" if is_full else ""
    notice = f"{which} was cut after {result.completion_tokens} tokens{why}; {more} allows more"
    if output.fail_on_length:
        raise FwlocalError(notice)
    is_expected = (
        request.max_tokens is not None and not is_full and not request.sampling.get("grammar")
    )
    if not is_expected and not output.quiet:
        output.stderr.write(f"fwlocal: {notice}\n")
