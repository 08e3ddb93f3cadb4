"""A conversation's turns: asked, answered, gone on with, taken back, edited, and out of context."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fwlocal.answer import FinishReason, Result, Timings
from fwlocal.conversation import Change, Conversation
from fwlocal.errors import UsageError
from fwlocal.prompts import Message


def said(
    text: str, finish: FinishReason = "stop", tokens: tuple[int, ...] = (), n: int = 0
) -> Result:
    return Result(text, tokens, finish, 10, 3, 0, 1, Timings(0, 0, 0, 0, 0, 0), n_dropped=n)


class Talk:
    """A conversation of some questions, all answered, and the kinds of what happened since."""

    def __init__(self, n_questions: int = 0) -> None:
        self.chat = Conversation("be kind")
        for number in range(1, n_questions + 1):
            self.chat.ask(f"q{number}")
            self.chat.answered(said(f"a{number}"))
        self.changes: list[Change] = []
        self.chat.on_change = self.changes.append

    @property
    def kinds(self) -> list[str]:
        return [change.kind for change in self.changes]

    @property
    def context(self) -> list[str]:
        return [message.content for message in self.chat.messages]


def test_what_left_is_not_in_the_messages_and_still_in_the_turns() -> None:
    talk = Talk(3)
    talk.chat.n_left = 2

    assert talk.context == ["be kind", "q3", "a3"]
    assert len(talk.chat.turns) == 6
    assert talk.chat.messages_without(1) == [talk.chat.messages[0], *talk.chat.turns[2:]]


def test_neither_the_question_that_waits_nor_the_last_answer_may_leave() -> None:
    talk = Talk(3)
    assert talk.chat.n_may_leave == 2
    talk.chat.ask("q4")
    assert talk.chat.n_may_leave == 3
    assert Talk().chat.n_may_leave == 0


def test_turns_that_left_for_a_question_are_back_when_it_is_taken_back() -> None:
    talk = Talk(4)
    talk.chat.n_left = 1
    talk.chat.ask("very long")
    talk.chat.n_left = 4
    talk.chat.take_back()

    assert talk.context == ["be kind", "q2", "a2", "q3", "a3", "q4", "a4"]
    assert talk.chat.unanswered == "very long"


def test_undoing_back_into_what_left_brings_it_back() -> None:
    talk = Talk(4)
    talk.chat.n_left = 2
    talk.chat.undo()
    assert talk.context == ["be kind", "q3", "a3"]
    talk.chat.undo()
    assert talk.context == ["be kind", "q1", "a1", "q2", "a2"]


def test_asking_again_leaves_out_what_left() -> None:
    talk = Talk(3)
    talk.chat.n_left = 2
    talk.chat.ask_again()
    assert talk.context == ["be kind", "q3"]
    talk.chat.take_back()
    assert talk.context == ["be kind", "q3", "a3"]


def test_an_answer_goes_on() -> None:
    talk = Talk()
    talk.chat.ask("q")
    talk.chat.answered(said("Once upon ", "length", (1, 2)))
    assert talk.chat.turns[-1] == Message("assistant", "Once upon ", (1, 2))

    talk.chat.go_on()
    talk.chat.continued(more := said("a time. \n", "stop", (3, 4)))

    assert talk.chat.turns[-1] == Message("assistant", "Once upon a time.", (1, 2, 3, 4))
    assert talk.kinds == ["user", "assistant", "continue", "continued"]
    assert (talk.changes[-1].text, talk.changes[-1].result) == ("a time. \n", more)


def test_white_space_at_the_end_stays_while_an_answer_may_go_on() -> None:
    talk = Talk(1)
    talk.chat.go_on()
    talk.chat.continued(said(" \n", "interrupt"))

    assert talk.chat.turns[-1].content == "a1 \n"


def test_what_turned_out_to_be_a_stop_string_is_gone() -> None:
    talk = Talk()
    talk.chat.ask("q")
    talk.chat.answered(said("Yes.\n### U", "length", (1, 2, 3)))
    talk.chat.go_on()
    talk.chat.continued(said("", "stop", n=6))

    assert talk.chat.turns[-1].content == "Yes."


def test_tokens_that_do_not_spell_all_of_an_answer_are_not_kept() -> None:
    talk = Talk(1)  # its tokens are not known
    talk.chat.go_on()
    talk.chat.continued(said(" more", "length", (5,)))

    assert talk.chat.turns[-1].tokens == ()


def test_an_answer_that_did_not_go_on_stays_as_it_was() -> None:
    talk = Talk(3)
    before = list(talk.chat.turns)
    talk.chat.go_on()
    talk.chat.n_left = 2
    talk.chat.take_back()

    assert talk.chat.turns == before
    assert talk.chat.n_left == 0
    assert talk.chat.unanswered is None
    assert talk.kinds == ["continue", "unanswered"]


def test_an_edited_question_takes_the_place_of_the_last() -> None:
    talk = Talk(2)
    assert talk.chat.last_question == "q2"
    talk.chat.edit_last("q2, really")

    assert talk.context == ["be kind", "q1", "a1", "q2, really"]
    assert talk.kinds == ["edit"]


def test_a_question_that_was_taken_back_can_be_edited() -> None:
    talk = Talk(1)
    talk.chat.ask("too long")
    talk.chat.take_back()
    assert talk.chat.last_question == "too long"
    talk.chat.edit_last("short")

    assert talk.context == ["be kind", "q1", "a1", "short"]
    assert talk.kinds == ["user", "unanswered", "edit"]


@pytest.mark.parametrize(
    "change",
    [
        lambda chat: chat.edit_last("x"),
        lambda chat: chat.last_question,
        Conversation.go_on,
        Conversation.ask_again,
        Conversation.undo,
    ],
)
def test_an_empty_conversation_has_nothing_to_change(
    change: Callable[[Conversation], object],
) -> None:
    talk = Talk()

    with pytest.raises(UsageError):
        change(talk.chat)
    assert talk.kinds == []
