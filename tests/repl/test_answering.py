"""How answers end, and what happens when the context fills up."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fwlocal.answer import Generation, Result
from fwlocal.errors import DoesNotFit
from fwlocal.prompts import Message
from fwlocal.repl.showing import last_line
from fwlocal.repl.state import State
from tests.repl.fakes import FakeEngine, Session


class Saving(FakeEngine):
    """One that has drafted, and found the prompt on the disk."""

    def steps(self, number: int, prompt_tokens: int) -> Generator[str, None, Result]:
        result = yield from super().steps(number, prompt_tokens)
        return replace(result, reused_tokens=2, n_restored=2, n_drafted=9, n_accepted=5)


LONG = "word " * 30  # with its answer, a third of the context of 100 words


def cut_engine(completion_tokens: int) -> FakeEngine:
    engine = FakeEngine(finish="length")
    engine.completion_tokens = completion_tokens
    return engine


def test_a_cut_answer_goes_on() -> None:
    session = Session("hello", "/continue", engine=cut_engine(5), state=State(max_tokens=5)).run()

    assert session.notes[0] == "(cut after 5 tokens; /continue goes on)"
    assert session.turns == [Message("user", "hello"), Message("assistant", "answer 1answer 2")]
    assert session.engine.asked[1][-1] == Message("assistant", "answer 1")


def test_an_answer_that_fills_the_context_alone_is_cut() -> None:
    session = Session("hello", engine=cut_engine(97)).run()

    assert session.notes == ["(cut: the context is full; /reset starts anew)"]


def test_the_oldest_turns_leave_a_full_context() -> None:
    session = Session(*[LONG] * 6).run()

    assert len(session.turns) == 12
    assert session.chat.conversation.n_left > 0
    assert session.engine.asked[-1][0] == Message("system", "be kind")
    assert all(session.engine.count(asked) <= 100 for asked in session.engine.asked)
    assert "left it, answers included" in " ".join(session.notes)
    gaps = [len(asked) for asked in session.engine.asked]
    shifts = [options["may_shift"] for options in session.engine.options]
    assert shifts == [False, *(now < before + 2 for before, now in itertools.pairwise(gaps))]
    assert True in shifts


def test_what_was_edited_away_leaves_no_trace_in_the_cache() -> None:
    session = Session(
        *[LONG] * 4, "/edit", "/system be brief", "again", edited="a shorter one"
    ).run()

    assert session.chat.conversation.n_left > 0
    assert not any(options["may_shift"] for options in session.engine.options[-2:])


def test_on_full_drop_does_not_shift_the_cache() -> None:
    session = Session(*[LONG] * 6, state=State(on_full="drop")).run()

    assert session.chat.conversation.n_left > 0
    assert not any(options["may_shift"] for options in session.engine.options)


def test_on_full_stop_refuses_and_loses_nothing() -> None:
    session = Session(*[LONG] * 6, state=State(on_full="stop")).run()

    assert session.chat.conversation.n_left == 0
    assert "the context is full" in session.notes[-1]
    assert session.screen.defaults[-1] == LONG.strip()


def test_an_answer_that_fills_the_context_goes_on_once_turns_have_left() -> None:
    engine = FakeEngine()
    session = Session(LONG, LONG, engine=engine)
    session.chat.run()
    engine.finish, engine.completion_tokens, engine.first = "length", 100, "word " * 31
    session.chat.handle("and now")

    # The first is full, the older turns leave, the second has nothing left that could leave.
    assert len(engine.asked) == 4
    assert session.turns[-1].content == f"{engine.first}3{engine.first}4"
    assert session.chat.conversation.n_left == 2


def test_a_context_that_fills_up_is_told_once_before_it_is_full() -> None:
    engine = FakeEngine()
    engine.completion_tokens = 80
    session = Session("hello", "again", engine=engine).run()

    (note,) = session.notes
    assert note == "(the context is 83 % full; when it is, the oldest turns leave; /tokens)"


def test_statistics_under_each_answer() -> None:
    session = Session("hello", "/stats on", "again").run()

    assert session.notes[0] == "stats is on"
    assert session.notes[1].startswith("20.0 tok/s, first token after 0.25 s, context ")


def test_statistics_tell_what_saved_work() -> None:
    engine = Saving()
    session = Session("hello", "/stats", engine=engine, state=State(stats=True)).run()

    assert session.notes[0] == (
        "20.0 tok/s (5 of 9 drafted accepted), first token after 0.25 s "
        "(2 tokens from the prefix cache), context 6 of 100, 6 %"
    )
    assert "2 of them reused, from the prefix cache; 1 in 0.20 s" in session.notes[1]
    assert "20.0 tok/s, 5 of 9 drafted accepted; ended by stop" in session.notes[1]


def test_what_is_set_holds_for_the_answers() -> None:
    session = Session("/set max-tokens 7", "hello").run()

    assert session.engine.options[0]["max_tokens"] == 7


def test_a_retry_has_another_seed() -> None:
    session = Session("/set seed 7", "hello", "/retry", "/retry", "again").run()

    assert [options["sampling"].seed for options in session.engine.options] == [7, 8, 9, 7]


def test_a_retry_at_temperature_0_is_told_to_be_the_same() -> None:
    assert "the answer is the same" in Session("/set temp 0", "a", "/retry").run().notes[1]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("one\ntwo and", "two and"),
        ("Look:\n```python\nx = 1\nprint(", "```python\nprint("),
        ("```\ncode\n```\nThen", "Then"),
        ("line\n", ""),
    ],
)
def test_an_answer_that_goes_on_begins_with_its_last_line(said: str, shown: str) -> None:
    assert last_line(said) == shown


class Tight(FakeEngine):
    """One for which the memory refuses more than 40 words."""

    def chat(self, messages: Sequence[Message], **options: Any) -> Generation:
        if self.count(messages) > 40:
            raise DoesNotFit("there was no memory for so long a context")
        return super().chat(messages, **options)


def test_turns_leave_where_the_memory_is_full_before_the_context() -> None:
    session = Session(*["word " * 9] * 6, engine=Tight()).run()

    assert len(session.engine.asked) == 6
    assert len(session.turns) == 12
    assert session.chat.conversation.n_left > 0
    assert "left it, answers included" in session.notes[0]


def test_a_message_that_no_memory_holds_is_refused() -> None:
    session = Session("word " * 60, engine=Tight()).run()

    assert session.notes == ["there was no memory for so long a context"]
    assert session.turns == []
