"""What saved work is told by programs: in the object of ``--json``, and on the lines of a batch."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from fwlocal.answer import Result, Timings
from fwlocal.interrupts import Interrupt
from fwlocal.oneshot.batch import Batch, Item, one_after_the_other
from fwlocal.oneshot.batch_progress import BatchBar
from fwlocal.oneshot.batch_question import Asker
from fwlocal.oneshot.record import Question, saved_work
from fwlocal.parallel import Job
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams

QUESTION = Question((Message("user", "hi"),), "chatml", SamplingParams(seed=1), 3, ())


class Written:
    """The lines of a batch."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, object]] = []

    def write(self, record: Mapping[str, object]) -> None:
        self.records.append(record)


class Answering:
    """An engine whose answers all took ``saved`` from somewhere."""

    def __init__(self, **saved: int) -> None:
        self.saved = saved
        self.result: Any = None

    def reset(self) -> None:
        """It keeps nothing."""

    def generate(self, prompt: object, **options: object) -> Answering:
        timings = Timings(0, 0, 0, 0, 0, 0)
        self.result = Result("ho", (), "stop", 300, 3, 256, 1, timings, **self.saved)  # type: ignore[arg-type]
        return self

    def __iter__(self) -> Iterator[str]:
        return iter(("ho",))


class Asking:
    """Makes the job of a question."""

    def job(self, key: int, question: Question, tokens: array[int]) -> Job:
        return Job(key, tuple(tokens), question.sampling, question.max_tokens, ())


def batch_line(**saved: int) -> Mapping[str, object]:
    """What a batch writes for an answer that saved so much."""
    item = Item(1, "a", "ab", QUESTION, array("i", [1]))
    written, bar = Written(), BatchBar(1, quiet=True)
    batch = Batch([item], cast(Asker, Asking()), written, 1, bar)
    batch.run(one_after_the_other(cast(Any, Answering(**saved)), Interrupt(), bar.token))
    return written.records[0]


def test_a_batch_tells_it_where_there_is_something_to_say() -> None:
    line = batch_line(n_restored=256, n_drafted=7)

    assert (line["reused_tokens"], line["restored_tokens"]) == (256, 256)
    assert (line["drafted_tokens"], line["accepted_tokens"]) == (7, 0)
    assert not saved_work(Answering().generate(()).result).keys() & batch_line().keys()


@pytest.mark.parametrize("form", ["--json", "--jsonl"])
def test_an_object_always_tells_it(ask: Any, form: str) -> None:
    found = json.loads(ask(form, "--lookup", "off", "hi").stdout.strip().split("\n")[-1])

    assert [found[name] for name in ("drafted_tokens", "accepted_tokens")] == [0, 0]
    assert (found["restored_tokens"], found["tuned"]) == (0, [])
