"""The chat's loop with a fake engine: what is kept, what is said, and when it leaves."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from fwlocal.errors import Interrupted, NetworkError, WorkerLost
from fwlocal.prompts import Message
from fwlocal.repl.loop import LEAVE_HINT
from fwlocal.terminal import inert
from tests.repl.fakes import FakeEngine, Session, loaded


def test_answers_stream_and_the_conversation_grows() -> None:
    session = Session("hello", "and now?").run()

    assert session.said == "answer 1\nanswer 2\n"
    assert session.engine.asked[1] == [
        Message("system", "be kind"),
        Message("user", "hello"),
        Message("assistant", "answer 1"),
        Message("user", "and now?"),
    ]


def test_reset_begins_anew_with_the_same_system_text() -> None:
    session = Session("hello", "/reset", "again").run()

    assert session.engine.asked[-1] == [Message("system", "be kind"), Message("user", "again")]


def test_help_lists_every_command() -> None:
    (text,) = Session("/help").run().notes

    names = "/help", "/retry", "/reset", "/save [NAME]", "/load", "/exit", "Ctrl-C", "Ctrl-D"
    assert all(name in text for name in names)


def test_exit_leaves() -> None:
    assert Session("/exit", "never asked").run().engine.asked == []


def test_an_unknown_command_offers_the_nearest() -> None:
    (note,) = Session("/rest").run().notes

    assert note.startswith("there is no command /rest; did you mean /reset?")


def test_empty_lines_are_passed_over() -> None:
    assert Session("", "   ").run().engine.asked == []


def test_ctrl_c_twice_at_the_prompt_leaves() -> None:
    session = Session(KeyboardInterrupt, KeyboardInterrupt, "never asked").run()

    assert session.notes == [LEAVE_HINT]
    assert session.engine.asked == []


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("/usr/bin is a folder", "/usr/bin is a folder"),
        ("/etc/hosts", "/etc/hosts"),
        ("//help", "/help"),
    ],
)
def test_a_path_is_no_command(typed: str, asked: str) -> None:
    assert Session(typed).run().turns[0] == Message("user", asked)


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
    assert session.turns[-1] == Message("assistant", "answer ")  # as /continue needs it


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


def test_a_message_that_does_not_fit_is_taken_back_and_can_be_changed() -> None:
    long = "word " * 120
    session = Session(long, "hello").run()

    assert "122 tokens" in session.notes[0]
    assert "context holds 100" in session.notes[0]
    assert session.engine.asked[-1] == [Message("system", "be kind"), Message("user", "hello")]
    assert session.screen.defaults == ["", long.strip(), ""]


SYSTEM, HELLO = Message("system", "be kind"), Message("user", "hello")
LOST = WorkerLost("a worker was lost in mid-answer (gone); start it again, then")


def test_retry_asks_again_what_was_lost_in_mid_answer() -> None:
    engine = FakeEngine(failures=[None, LOST])
    session = Session("hello", "and now?", "/retry", engine=engine).run()

    assert session.said == "answer 1\nanswer \nanswer 3\n"
    assert session.notes == ["a worker was lost in mid-answer (gone); start it again, then /retry"]
    assert engine.asked[2] == engine.asked[1]
    assert session.turns == [
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
    assert session.turns == [HELLO, Message("assistant", "answer 4")]


def test_retry_after_an_answer_replaces_it() -> None:
    session = Session("hello", "/retry", "/retry").run()

    assert session.engine.asked == [[SYSTEM, HELLO]] * 3
    assert session.turns == [HELLO, Message("assistant", "answer 3")]
    assert session.notes == []


def test_a_failed_retry_leaves_the_answer_that_there_was() -> None:
    engine = FakeEngine(failures=[None, LOST])
    session = Session("hello", "/retry", engine=engine).run()
    assert session.turns == [HELLO, Message("assistant", "answer 1")]

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

    assert session.turns == [HELLO, Message("assistant", "2")]


@pytest.mark.parametrize("before", [[], ["hello", "/reset"], ["word " * 120, "/reset"]])
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


def test_a_model_cannot_drive_the_terminal() -> None:
    attack = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\r\x7fline\n\ttab"

    shown = inert(attack)

    assert not any(ord(c) < 0x20 and c not in "\n\t" for c in shown)
    assert not any(0x7F <= ord(c) < 0xA0 for c in shown)
    assert shown.endswith("line\n\ttab")


@pytest.mark.parametrize(("other", "tokens"), [("tiny", (1, 2)), ("squid", ())])
def test_another_vocabulary_gets_the_conversation_as_text(
    other: str, tokens: tuple[int, ...]
) -> None:
    session = Session()
    session.turns[:] = [Message("user", "a"), Message("assistant", "b", (1, 2))]

    session.chat.replace(loaded(FakeEngine(), other))

    assert session.turns[1].tokens == tokens
    assert session.engine.is_closed


def test_ctrl_c_before_an_answer_begins_takes_the_message_back() -> None:
    class Counting(FakeEngine):
        """Ctrl-C comes while a long second message is counted."""

        def count(self, messages: Sequence[Message]) -> int:
            if messages[-1].content == "a long one" and not self.failures:
                self.failures.append(None)
                raise KeyboardInterrupt
            return super().count(messages)

    session = Session("hello", "a long one", "third", engine=Counting()).run()

    assert session.notes == ["(stopped)"]
    assert [turn.content for turn in session.turns] == ["hello", "answer 1", "third", "answer 2"]


def test_a_message_that_does_not_fit_is_given_back_as_it_was_typed() -> None:
    session = Session("//help " + "word " * 200).run()

    assert session.screen.defaults[-1].startswith("//help word")


def test_files_go_along_once_also_where_the_answer_is_lost(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("whales")
    lost = FakeEngine(failures=[WorkerLost("a worker was lost;")])
    session = Session(f"/file {tmp_path}/notes.txt", "read", "/retry", "next", engine=lost).run()

    assert ["whales" in asked[-1].content for asked in lost.asked] == [True, True, False]
    assert session.turns[-2] == Message("user", "next")


def test_a_signal_to_leave_loads_no_model_again() -> None:
    session = Session()
    with pytest.raises(Interrupted), session.chat.release():
        raise Interrupted("terminated", exit_code=143)

    assert session.opened == []


def test_ctrl_c_in_a_load_brings_the_model_back() -> None:
    session = Session()
    with pytest.raises(Interrupted), session.chat.release():
        raise Interrupted

    assert session.opened == [("tiny:Q8_0", "freewilly2")]
