"""The chat's loop with a fake engine: what is kept, what is said, and when it leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Sequence

import pytest

from fwlocal.answer import FinishReason, Generation, Result, Timings
from fwlocal.conversation import Conversation
from fwlocal.errors import FwlocalError, Interrupted, NetworkError, PromptTooLong, WorkerLost
from fwlocal.interrupts import Interrupt
from fwlocal.prompts import Message
from fwlocal.repl.loop import LEAVE_HINT, Chat
from fwlocal.terminal import inert

Steps = Callable[[], None]


class FakeEngine:
    """Answers "answer N" to the Nth message; ``during`` runs in the middle of each answer, and
    ``failures`` are what happens to the first ones instead: an error in mid-answer, or None."""

    def __init__(
        self,
        during: Steps = lambda: None,
        *,
        finish: FinishReason = "stop",
        first: str = "answer ",
        failures: Sequence[FwlocalError | None] = (),
    ) -> None:
        self.first = first
        self.failures = list(failures)
        self.interrupt = Interrupt()
        self.limit = 100
        self.during = during
        self.finish = finish
        self.asked: list[list[Message]] = []
        self.completion_tokens = 3

    def chat(self, messages: Sequence[Message], max_tokens: int | None = None) -> Generation:
        self.asked.append(list(messages))
        if "too long" in messages[-1].content:
            raise PromptTooLong("the prompt has 999 tokens and the context holds 100")
        return Generation(self.steps(len(self.asked)))

    def steps(self, number: int) -> Generator[str, None, Result]:
        said = [self.first]
        yield said[0]
        self.during()
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        if not self.interrupt.is_set():
            said.append(str(number))
            yield said[1]
        reason = "interrupt" if self.interrupt.is_set() else self.finish
        timings = Timings(0, 0, 0, 0, 0, 0)
        text = "".join(said)
        return Result(text, (), reason, 10, self.completion_tokens, 0, 1, timings)


class Session:
    """A chat whose user types ``lines``; an exception among them is raised instead."""

    def __init__(self, *lines: str | type[BaseException], engine: FakeEngine | None = None) -> None:
        self.engine = engine or FakeEngine()
        self.lines = iter([*lines, EOFError])
        self.said = ""
        self.notes: list[str] = []
        self.chat = Chat(
            engine=self.engine,  # type: ignore[arg-type]
            conversation=Conversation("be kind"),
            ask=self.ask,
            say=self.say,
            note=self.notes.append,
        )

    def ask(self) -> str:
        line = next(self.lines)
        if isinstance(line, str):
            return line
        raise line

    def say(self, text: str) -> None:
        self.said += text

    def run(self) -> Session:
        self.chat.run()
        return self


def test_answers_stream_and_the_conversation_grows() -> None:
    session = Session("hello", "and now?").run()

    assert session.said == "answer 1\nanswer 2\n"
    assert session.engine.asked[1] == [
        Message("system", "be kind"),
        Message("user", "hello"),
        Message("assistant", "answer 1"),
        Message("user", "and now?"),
    ]


def test_reset_forgets_all_but_the_system_text() -> None:
    session = Session("hello", "/reset", "again").run()

    assert session.engine.asked[-1] == [Message("system", "be kind"), Message("user", "again")]


def test_help_lists_every_command() -> None:
    (text,) = Session("/help").run().notes

    names = "/help", "/retry", "/reset", "/exit", "Ctrl-C", "Ctrl-D"
    assert all(name in text for name in names)


def test_exit_leaves() -> None:
    assert Session("/exit", "never asked").run().engine.asked == []


def test_an_unknown_command_offers_the_nearest() -> None:
    assert Session("/rest").run().notes == ["there is no command /rest; did you mean /reset?"]


def test_empty_lines_are_passed_over() -> None:
    assert Session("", "   ").run().engine.asked == []


def test_ctrl_c_at_the_prompt_only_gives_a_hint() -> None:
    session = Session(KeyboardInterrupt, "hello").run()

    assert session.notes == [LEAVE_HINT]
    assert session.said == "answer 1\n"


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said() -> None:
    engine = FakeEngine(during=lambda: signal.raise_signal(signal.SIGINT))
    session = Session("hello", engine=engine)
    session.run()

    assert session.said == "answer \n"
    assert session.notes == ["(stopped)"]
    assert session.chat.conversation.turns[-1] == Message("assistant", "answer")


def test_a_message_stopped_before_any_answer_is_taken_back() -> None:
    engine = FakeEngine(during=lambda: signal.raise_signal(signal.SIGINT), first="")
    session = Session("hello", "again", engine=engine).run()

    assert session.engine.asked[1] == [Message("system", "be kind"), Message("user", "again")]


def test_a_second_ctrl_c_does_not_end_the_program() -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    assert Session("hello", engine=FakeEngine(during=twice)).run().notes == ["(stopped)"]


def test_sigterm_ends_the_chat() -> None:
    engine = FakeEngine(during=lambda: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(Interrupted) as caught:
        Session("hello", engine=engine).run()
    assert caught.value.exit_code == 143


def test_a_message_that_does_not_fit_is_taken_back() -> None:
    session = Session("too long", "hello").run()

    assert "999 tokens" in session.notes[0]
    assert session.engine.asked[-1] == [Message("system", "be kind"), Message("user", "hello")]


SYSTEM, HELLO = Message("system", "be kind"), Message("user", "hello")
LOST = WorkerLost("a worker was lost in mid-answer (gone); start it again, then")


def test_retry_asks_again_what_was_lost_in_mid_answer() -> None:
    engine = FakeEngine(failures=[None, LOST])
    session = Session("hello", "and now?", "/retry", engine=engine).run()

    assert session.said == "answer 1\nanswer \nanswer 3\n"
    assert session.notes == ["a worker was lost in mid-answer (gone); start it again, then /retry"]
    assert engine.asked[2] == engine.asked[1]
    assert session.chat.conversation.turns == [
        HELLO,
        Message("assistant", "answer 1"),
        Message("user", "and now?"),
        Message("assistant", "answer 3"),
    ]


def test_retry_goes_on_asking_while_a_worker_is_missing() -> None:
    missing = NetworkError("no worker answers at den:50052; start it there")
    engine = FakeEngine(failures=[LOST, missing, missing])
    session = Session("hello", "/retry", "/retry", "/retry", engine=engine).run()

    assert engine.asked == [[SYSTEM, HELLO]] * 4
    assert session.notes[1:] == [str(missing)] * 2
    assert session.chat.conversation.turns == [HELLO, Message("assistant", "answer 4")]


def test_retry_after_an_answer_replaces_it() -> None:
    session = Session("hello", "/retry", "/retry").run()

    assert session.engine.asked == [[SYSTEM, HELLO]] * 3
    assert session.chat.conversation.turns == [HELLO, Message("assistant", "answer 3")]
    assert session.notes == []


def test_a_failed_retry_leaves_the_answer_that_there_was() -> None:
    engine = FakeEngine(failures=[None, LOST])
    session = Session("hello", "/retry", engine=engine).run()
    assert session.chat.conversation.turns == [HELLO, Message("assistant", "answer 1")]

    again = Session("/retry", engine=engine)
    again.chat.conversation = session.chat.conversation
    again.run()

    assert again.chat.conversation.turns == [HELLO, Message("assistant", "answer 3")]


def test_a_new_message_after_an_error_is_the_one_to_retry() -> None:
    engine = FakeEngine(failures=[LOST])
    Session("hello", "never mind", "/retry", engine=engine).run()

    assert engine.asked[1] == engine.asked[2] == [SYSTEM, Message("user", "never mind")]


def test_retry_of_a_message_stopped_before_any_answer() -> None:
    stops = iter([lambda: signal.raise_signal(signal.SIGINT)])
    engine = FakeEngine(during=lambda: next(stops, lambda: None)(), first="")
    session = Session("hello", "/retry", engine=engine).run()

    assert session.chat.conversation.turns == [HELLO, Message("assistant", "2")]


@pytest.mark.parametrize("before", [[], ["hello", "/reset"], ["too long", "/reset"]])
def test_nothing_to_retry_is_said(before: list[str]) -> None:
    session = Session(*before, "/retry").run()

    assert session.notes[-1] == "there is nothing to ask again yet"


def test_ctrl_c_while_an_engine_starts_anew_comes_back_to_the_prompt() -> None:
    def stopped_in_the_load() -> None:
        signal.raise_signal(signal.SIGINT)
        raise Interrupted

    engine = FakeEngine(during=stopped_in_the_load, first="")
    session = Session("hello", "/help", engine=engine).run()

    assert session.notes[0] == "(stopped)"
    assert len(session.notes) == 2


def test_an_answer_cut_by_a_full_context_says_so() -> None:
    engine = FakeEngine(finish="length")
    engine.completion_tokens = 90

    assert "context is full" in Session("hello", engine=engine).run().notes[0]


def test_a_model_cannot_drive_the_terminal() -> None:
    attack = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\r\x7fline\n\ttab"

    shown = inert(attack)

    assert not any(ord(c) < 0x20 and c not in "\n\t" for c in shown)
    assert not any(0x7F <= ord(c) < 0xA0 for c in shown)
    assert shown.endswith("line\n\ttab")
