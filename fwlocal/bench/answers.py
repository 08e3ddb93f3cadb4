"""Greedy answers to a file of prompts, level by level, and where they part from the reference's.

Every level gets the same tokens, those that the reference's prompt format makes of the prompts, so
that no difference is one of templates. An answer is the likeliest token, again and again, from an
empty KV cache: whatever a line, or the model, says of sampling, but for a grammar.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fwlocal import llama, loader
from fwlocal.bench.measured import Entrant
from fwlocal.bench.result import Answers
from fwlocal.engine import EngineLike
from fwlocal.errors import FwlocalError, Interrupted, PromptTooLong, UsageError
from fwlocal.formats import choose_format
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.oneshot.batch_lines import Asked, Bad, read_lines
from fwlocal.oneshot.batch_question import Asker, Common
from fwlocal.sampling import SamplingParams

MAX_TOKENS = 128  # of an answer, where its line names no other number

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """What every level is asked: tokens, the strings that end the answer, the longest answer (None
    where the line names none), and the grammar, if any. ``number`` is the line's."""

    number: int
    tokens: Tokens
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    grammar: str | None = None


def read_prompts(path: Path, *, raw: bool = False) -> tuple[Asked, ...]:
    """The lines of a file, in the form of ``fwlocal run --batch``; ``raw`` takes prompts alone.

    Raises UsageError, which names all lines that cannot be asked and says what is wrong with the
    first, and FwlocalError for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            lines = list(read_lines(file, raw=raw))
    except OSError as error:
        raise FwlocalError(f"{path}: cannot be read: {error.strerror or error}") from error
    bad = [line for line in lines if isinstance(line, Bad)]
    if bad:
        others = ", ".join(str(line.number) for line in bad[1:])
        more = f"; nor can these lines be asked: {others}" if others else ""
        raise UsageError(f"{path}: line {bad[0].number}: {bad[0].error}{more}")
    if not lines:
        raise UsageError(f"{path}: holds no line; give an object with prompt or messages on each")
    return tuple(line for line in lines if isinstance(line, Asked))


def prompts_of(
    asked: Iterable[Asked], reference: Entrant, options: EngineOptions, *, name: str = "--prompts"
) -> tuple[Prompt, ...]:
    """The lines as the reference's prompt format, or ``options``', makes tokens of them; of its
    weights nothing is loaded. ``name`` is the file's, for messages.

    Raises UsageError where no prompt format is known, and PromptTooLong naming the line.
    """
    file, header = reference.file, reference.header
    prompt_format = None if options.raw else choose_format(file, header, options.prompt_format)
    vocabulary = llama.Model(file.path, llama.LoadOptions(vocab_only=True))
    asker = Asker(file, header, prompt_format, vocabulary, Common(None, None, {}, ()))
    with contextlib.closing(asker):
        prompts = tuple(_prompt(line, asker) for line in asked)
    limit = options.n_ctx or header.number("{arch}.context_length") or 0
    for prompt in prompts:
        if limit and len(prompt.tokens) >= limit:
            raise PromptTooLong(
                f"{name}: line {prompt.number}: the prompt has {len(prompt.tokens)} tokens, the "
                f"context holds {limit}; shorten it"
            )
    return prompts


def _prompt(line: Asked, asker: Asker) -> Prompt:
    question = asker.question(line)
    job = asker.job(line.number, question, asker.tokens(question))
    return Prompt(line.number, job.tokens, job.stop, line.max_tokens, job.sampling.grammar)


@contextlib.contextmanager
def loaded(
    entrant: Entrant,
    options: EngineOptions,
    *,
    notify: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[float], None] = lambda fraction: None,
    interrupt: Interrupt | None = None,
) -> Iterator[EngineLike]:
    """The level, loaded for prompts that are tokens already, and freed at the end. Raises what
    ``fwlocal.loader.load`` does."""
    model = loader.load(
        entrant.file,
        entrant.header,
        replace(options, raw=True, prompt_format=None, tuned=False),
        notify=notify,
        on_progress=on_progress,
        interrupt=interrupt,
    )
    with model.engine as engine:
        yield engine


def answers_of(
    engine: EngineLike,
    prompts: Sequence[Prompt],
    max_tokens: int = MAX_TOKENS,
    on_answer: Callable[[int, Tokens], None] = lambda index, tokens: None,
    interrupt: Interrupt | None = None,
) -> tuple[Tokens, ...]:
    """The tokens of the answer to each prompt, of white space at an answer's end none;
    ``on_answer`` is told of each as it is whole, with its index.

    Raises Interrupted when ``interrupt``, which the engine was loaded with, is set.
    """
    answers = []
    for index, prompt in enumerate(prompts):
        tokens = _answer(engine, prompt, max_tokens, interrupt or engine.interrupt)
        on_answer(index, tokens)
        answers.append(tokens)
    return tuple(answers)


def _answer(engine: EngineLike, prompt: Prompt, max_tokens: int, interrupt: Interrupt) -> Tokens:
    engine.reset()  # what came before must not decide how the prompt is cut into batches
    generation = engine.generate(
        prompt.tokens,
        sampling=SamplingParams(temperature=0.0, seed=0, grammar=prompt.grammar),
        max_tokens=prompt.max_tokens or max_tokens,
        stop=prompt.stop,
    )
    for _ in generation:
        pass
    if generation.result.finish_reason == "interrupt":
        raise Interrupted(exit_code=interrupt.exit_code)
    return generation.result.tokens


def compare(reference: Sequence[Tokens], answers: Sequence[Tokens]) -> Answers:
    """Where each answer parts from the reference's to the same prompt. Where one is the other's
    beginning, that is behind its last token. Raises ValueError for another number of answers."""
    pairs = zip(reference, answers, strict=True)
    return Answers(tuple(_first_difference(own, other) for own, other in pairs))


def _first_difference(one: Tokens, other: Tokens) -> int | None:
    if one == other:
        return None
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((index for index, (a, b) in pairs if a != b), shorter)
