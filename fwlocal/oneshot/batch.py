"""Many prompts from a file: those still to be answered are, and each answer is a line.

Answers go out in the order of the input. A line that cannot be answered is a line with its error;
the others go on. Who answers, several at once or one after the other, this module does not know.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from fwlocal.answer import Result
from fwlocal.engine import EngineLike
from fwlocal.errors import BadGrammar, FwlocalError, PromptTooLong, UsageError
from fwlocal.interrupts import Interrupt
from fwlocal.oneshot.batch_file import Before, Lines
from fwlocal.oneshot.batch_lines import Asked, Bad, Id
from fwlocal.oneshot.batch_order import InOrder
from fwlocal.oneshot.batch_progress import BatchBar
from fwlocal.oneshot.batch_question import Asker
from fwlocal.oneshot.record import Question, saved_work
from fwlocal.parallel import Failed, Finished, Job, Need
from fwlocal.parallel.prefix import reusable

Take = Callable[[], Job | None]
Answers = Callable[[Take], Iterator[Finished | Failed]]

# What is wrong with one line alone; anything else would be wrong with all of them.
OF_ONE_LINE = (BadGrammar, PromptTooLong, UsageError)


@dataclass(frozen=True)
class Item:
    """A line to write: the ``question`` whose answer it is, and its prompt's ``tokens``; or an
    ``error``. ``asked`` is the fingerprint, ``number`` the line's in the input."""

    number: int
    id: Id
    asked: str
    question: Question | None = None
    tokens: array[int] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Todo:
    """What is left to do; and of what is done already, how many lines, and how many of them are
    errors."""

    items: tuple[Item, ...]
    n_done: int = 0
    n_failed: int = 0

    @property
    def needs(self) -> list[Need]:
        """What the prompts and answers take of a context."""
        return [
            Need(len(item.tokens), item.question.max_tokens)
            for item in self.items
            if item.question is not None and item.tokens is not None
        ]

    def shares_beginnings(self, n_batch: int) -> bool:
        """Whether a prompt begins like the one before it, for long enough to be of use."""
        prompts = [item.tokens for item in self.items if item.tokens is not None]
        return any(reusable(first, second, n_batch) for first, second in pairwise(prompts))


@dataclass
class Counts:
    """What came of it; ``n_cut`` answers ended at a limit."""

    n_answers: int = 0
    n_failed: int = 0
    n_cut: int = 0


def fingerprints(lines: Iterable[Asked | Bad], asker: Asker) -> dict[Id, set[str]]:
    """Of all lines, by id."""
    found: dict[Id, set[str]] = {}
    for line in lines:
        found.setdefault(line.id, set()).add(asker.fingerprint(line))
    return found


def to_do(lines: Iterable[Asked | Bad], asker: Asker, before: Before) -> Todo:
    """The lines without those whose answer is there ``before``, or whose error is."""
    items, done, n_failed = [], before.done, 0
    n_done = 0
    for line in lines:
        asked = asker.fingerprint(line)
        record = done.get((line.id, asked))
        if record is None:
            items.append(_item(line, asked, asker))
        else:
            n_done += 1
            n_failed += record.is_error
    return Todo(tuple(items), n_done, n_failed)


def _item(line: Asked | Bad, asked: str, asker: Asker) -> Item:
    if isinstance(line, Bad):
        return Item(line.number, line.id, asked, error=line.error)
    question = asker.question(line)
    try:
        tokens = asker.tokens(question)
    except FwlocalError as error:  # of a template that refuses such messages
        return Item(line.number, line.id, asked, error=str(error))
    return Item(line.number, line.id, asked, question, tokens)


class Batch:
    """Writes the answers to ``items`` to ``lines``; ``n_parallel`` run at once."""

    def __init__(
        self, items: Sequence[Item], asker: Asker, lines: Lines, n_parallel: int, bar: BatchBar
    ) -> None:
        self._items, self._asker, self._lines = items, asker, lines
        self._order: InOrder[Mapping[str, object]] = InOrder(n_parallel)
        self._bar = bar
        self._begun = 0
        self.counts = Counts()

    @property
    def n_written(self) -> int:
        """How many lines were written."""
        return self._order.n_out

    def run(self, answers: Answers) -> None:
        """Until all are answered, or no more come. Raises what is not of one line alone."""
        for end in answers(self._take):
            if isinstance(end, Finished):
                self._put(end.key, self._answer(self._items[end.key], end.result))
            elif isinstance(end.error, OF_ONE_LINE):
                self._fail(end.key, str(end.error))
            else:
                raise end.error

    def _take(self) -> Job | None:
        """The next to ask, if it is not too far ahead of the oldest."""
        while self._begun < len(self._items) and self._order.may_begin(self._begun):
            index, item = self._begun, self._items[self._begun]
            self._begun += 1
            if item.question is not None and item.tokens is not None:
                return self._asker.job(index, item.question, item.tokens)
            self._fail(index, item.error or "it cannot be asked")
        return None

    def _answer(self, item: Item, result: Result) -> dict[str, object]:
        self.counts.n_answers += 1
        self.counts.n_cut += result.finish_reason == "length"
        timings = {name: round(value, 4) for name, value in asdict(result.timings).items()}
        saved = saved_work(result)  # as a rule nothing: prompts are answered together
        return {
            "id": item.id,
            "text": result.text,
            "finish_reason": result.finish_reason,
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": result.completion_tokens,
            "reused_tokens": result.reused_tokens,
            **(saved if any(saved.values()) else {}),
            "seed": result.seed,
            "timings": timings,
            "asked": item.asked,
        }

    def _fail(self, index: int, error: str) -> None:
        self.counts.n_failed += 1
        item = self._items[index]
        record = {"id": item.id, "line": item.number, "error": error, "asked": item.asked}
        self._put(index, record)

    def _put(self, index: int, record: Mapping[str, object]) -> None:
        self._bar.n_answers += 1
        for ready in self._order.put(index, record):
            self._lines.write(ready)


def one_after_the_other(
    engine: EngineLike, interrupt: Interrupt, on_token: Callable[[], None]
) -> Answers:
    """By an engine that cannot answer several at once. Each answer begins with an empty KV cache:
    it depends on its own line alone."""

    def answers(take: Take) -> Iterator[Finished | Failed]:
        while not interrupt.is_set() and (job := take()) is not None:
            engine.reset()
            try:
                generation = engine.generate(
                    list(job.tokens),
                    sampling=job.sampling,
                    max_tokens=job.max_tokens,
                    stop=job.stop,
                )
                for _ in generation:
                    on_token()
            except OF_ONE_LINE as error:
                yield Failed(job.key, error)
                continue
            if generation.result.finish_reason == "interrupt":
                return
            yield Finished(job.key, generation.result)

    return answers
