"""A running chat, kept as it goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fwlocal.conversation import Change
from fwlocal.errors import UsageError
from fwlocal.locks import Busy
from fwlocal.sampling import SamplingParams
from fwlocal.sessions.events import Speaker
from fwlocal.sessions.folder import Folder, NoSuchSession
from fwlocal.sessions.growing import read_file
from fwlocal.sessions.reading import Session
from tests.sessions.conftest import SPEAKER, Kept, result


def texts(session: Session | None) -> list[str]:
    assert session is not None
    return [turn.text for turn in session.turns]


def test_a_chat_is_on_the_disk_before_it_goes_on(folder: Folder) -> None:
    kept = Kept(folder).begin()
    assert not folder.root.exists()  # nothing was said

    kept.conversation.ask("Why is the sky blue? Tell me all of it.")
    path = kept.recorder.path
    assert path == folder.root / "2026-01-01-why-is-the-sky-blue.jsonl"
    assert read_file(path).unanswered is not None
    kept.conversation.answered(result("Rayleigh."))
    session = read_file(path)

    assert texts(session)[1] == "Rayleigh."
    assert session.speaker == SPEAKER
    said = session.turns[1].said
    assert said is not None
    assert (said.seed, said.finish_reason, said.timings["ttft_s"]) == (42, "stop", 0.1)
    assert said.sampling["temperature"] == 0.8
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0  # nobody else's
    kept.recorder.close()


def test_an_answers_pieces_follow_it_twice_a_second(folder: Folder) -> None:
    kept = Kept(folder).begin()
    kept.conversation.ask("hello")
    for piece in ("Once ", "upon ", "a ", "time"):
        kept.time += 0.3
        kept.recorder.piece(piece)
    path = kept.recorder.path
    assert path is not None

    assert texts(read_file(path)) == ["hello", "Once upon a time"]
    assert path.read_bytes().count(b'"piece"') == 2
    kept.recorder.close()


def test_an_answer_that_goes_on_is_kept_as_it_goes(folder: Folder) -> None:
    kept = Kept(folder).begin()
    kept.conversation.ask("and?")
    kept.conversation.answered(result("Once ", "length"))
    kept.conversation.go_on()
    kept.pieces("upon ", "a ")
    path = kept.recorder.path
    assert path is not None
    assert texts(read_file(path)) == ["and?", "Once upon a "]
    kept.conversation.continued(result("upon a time", "length"))
    kept.recorder.close()

    assert texts(read_file(path)) == ["and?", "Once upon a time"]
    assert read_file(path).conversation().messages == kept.conversation.messages


def test_names_are_never_taken_twice(folder: Folder) -> None:
    chats = [Kept(folder).begin().say("hello", "hi") for _ in range(3)]
    for kept in chats:
        kept.recorder.close()
    Kept(folder).begin().say("...", "?").recorder.close()

    assert sorted(folder.names()) == [
        "2026-01-01-chat", "2026-01-01-hello", "2026-01-01-hello-2", "2026-01-01-hello-3",
    ]  # fmt: skip


def test_nothing_that_happened_is_rewritten(folder: Folder) -> None:
    kept = Kept(folder).begin().say("hello", "hi")
    assert kept.recorder.path is not None
    before = kept.recorder.path.read_bytes()
    kept.conversation.ask_again()
    kept.conversation.answered(result("hi again"))
    kept.conversation.undo()
    after = kept.recorder.path.read_bytes()

    assert after.startswith(before)
    assert b"hi again" in after
    kept.recorder.close()


def test_a_chat_goes_on(folder: Folder, whales: Path) -> None:
    kept = Kept(folder)
    session = kept.recorder.open("whales")
    assert session is not None
    kept.conversation = session.conversation()
    kept.conversation.on_change = kept.recorder.note
    kept.say("Sure?", "Yes.")
    kept.recorder.close()

    assert texts(read_file(whales))[-2:] == ["Sure?", "Yes."]
    assert kept.told == []


def test_two_chats_on_one_session(folder: Folder, whales: Path) -> None:
    first, second = Kept(folder), Kept(folder)
    first.recorder.open("whales")

    with pytest.raises(Busy, match=r"session whales: process \d+ on .* is chatting in it; leave"):
        second.recorder.open("whales")
    assert first.recorder.open("whales") is not None  # its own
    first.recorder.close()
    assert second.recorder.open("whales") is not None
    second.recorder.close()


def test_a_name_is_reserved_before_a_word_was_said(folder: Folder) -> None:
    first = Kept(folder).begin()
    first.recorder.open("new")

    with pytest.raises(Busy, match="session new"):
        Kept(folder).recorder.open("new")
    first.say("hello", "hi")
    first.recorder.close()
    assert texts(read_file(folder.path("new"))) == ["hello", "hi"]


def test_a_temporary_chat_leaves_nothing(folder: Folder) -> None:
    kept = Kept(folder, saves=False).begin().say("hello", "hi")

    assert not folder.root.exists()
    assert kept.recorder.save("after-all") == folder.path("after-all")
    kept.say("and?", "no")
    kept.recorder.close()
    assert len(texts(read_file(folder.path("after-all")))) == 4


def test_a_temporary_chat_reads_another_and_does_not_write_it(folder: Folder, whales: Path) -> None:
    before = whales.read_bytes()
    kept = Kept(folder, saves=False).begin()
    kept.recorder.open("whales", must_exist=True)
    kept.say("hello", "hi")

    assert whales.read_bytes() == before


def test_saving_under_a_name_takes_the_chat_there(folder: Folder, whales: Path) -> None:
    kept = Kept(folder).begin().say("hello", "hi")
    kept.recorder.save("greeting")
    kept.say("and?", "no")
    with pytest.raises(UsageError, match="there is a session whales already"):
        kept.recorder.save("whales")
    kept.say("more?", "no")
    kept.recorder.close()

    assert folder.names()[0] == "greeting"
    assert sorted(folder.names()) == ["greeting", "whales"]
    assert texts(read_file(folder.path("greeting")))[::2] == ["hello", "and?", "more?"]


def test_what_cannot_be_loaded_leaves_the_chat_where_it_is(folder: Folder) -> None:
    kept = Kept(folder).begin().say("hello", "hi")
    with pytest.raises(NoSuchSession, match=r"there is no session gone; `fwlocal sessions` lists"):
        kept.recorder.open("gone", must_exist=True)
    kept.say("and?", "no")
    kept.recorder.close()

    (name,) = folder.names()
    assert len(texts(read_file(folder.path(name)))) == 4


def test_pieces_come_also_when_the_clock_is_put_back(folder: Folder) -> None:
    kept = Kept(folder).begin()
    kept.conversation.ask("hello")
    kept.time -= 86_400
    kept.pieces("Once ", "upon")
    path = kept.recorder.path
    assert path is not None
    kept.recorder.close()

    assert texts(read_file(path)) == ["hello", "Once upon"]


def test_a_long_message_is_kept_whole(folder: Folder) -> None:
    """As one with files is."""
    text = "größer\r\n\t\0\u2028" * 100_000
    kept = Kept(folder).begin().say(text, "yes")
    path = kept.recorder.path
    kept.recorder.close()

    assert path is not None
    assert texts(read_file(path)) == [text, "yes"]


def test_who_answered_last_is_who_goes_on(folder: Folder, whales: Path) -> None:
    kept = Kept(folder)
    kept.recorder.open("whales")
    kept.recorder.speaker = Speaker("other:Q4_K_M", "Q4_K_M", "llama2")
    kept.recorder.sampling = lambda: SamplingParams(temperature=0.0)
    kept.recorder.note(Change("user", "who?"))
    kept.recorder.note(Change("assistant", "me", result=result("me", "length")))
    kept.recorder.close()
    session = read_file(whales)

    assert session.speaker.model == "other:Q4_K_M"
    assert session.turns[1].said is not None
    assert session.turns[1].said.speaker == SPEAKER
    last = session.turns[-1]
    assert last.said is not None
    assert (last.said.sampling["temperature"], last.is_unfinished) == (0.0, True)
