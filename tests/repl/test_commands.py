"""The slash commands, typed into a chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.prompts import Message
from fwlocal.repl.commands import COMMANDS, find
from fwlocal.repl.settings import SETTINGS
from tests.repl.fakes import FakeEngine, Session, loaded


def test_every_command_is_found_by_its_name() -> None:
    names = [command.name for command in COMMANDS]

    assert len(set(names)) == len(names)
    assert [find(name)[0] for name in names] == list(COMMANDS)


def test_undo_takes_questions_back() -> None:
    session = Session("a", "b", "c", "/undo 2", "/undo", "/undo").run()

    assert session.turns == []
    assert session.notes[:2] == [
        "2 questions are taken back.",
        "The last question and its answer are taken back.",
    ]
    assert "cannot be undone" in session.notes[2]


@pytest.mark.parametrize("typed", ["/undo 0", "/undo -1", "/undo x", "/undo 1.5"])
def test_undo_of_nonsense(typed: str) -> None:
    session = Session("a", typed).run()

    assert "/undo takes how many questions" in session.notes[0]
    assert len(session.turns) == 2


def test_edit_asks_the_changed_message() -> None:
    session = Session("helo", "/edit", edited="hello\n").run()

    assert session.screen.given_to_edit == "helo"
    assert session.turns == [Message("user", "hello"), Message("assistant", "answer 2")]


def test_an_edit_that_changes_nothing_asks_nothing() -> None:
    session = Session("hello", "/edit", edited="hello\n").run()

    assert session.turns == [Message("user", "hello"), Message("assistant", "answer 1")]


def test_an_edit_that_is_not_answered_leaves_what_there_was() -> None:
    session = Session("hello", "/edit", edited="word " * 120).run()

    assert session.turns == [Message("user", "hello"), Message("assistant", "answer 1")]
    assert session.screen.defaults[-1] == ("word " * 120).strip()


def test_the_system_text() -> None:
    session = Session("/system", "/system be brief", "hello", "/system off", "again").run()

    assert session.notes[0] == "be kind"
    assert session.engine.asked[0][0] == Message("system", "be brief")
    assert session.engine.asked[1][0] == Message("user", "hello")


def test_set_lists_all_settings() -> None:
    (listed,) = Session("/set").run().notes

    *rows, hint = listed.splitlines()
    assert [row.split()[0] for row in rows] == [setting.name for setting in SETTINGS]
    assert "/set NAME default" in hint
    assert all(len(row) <= 80 for row in rows)


def test_set_changes_the_sampling_and_default_brings_it_back() -> None:
    session = Session("/set temp 0.2", "/set top_k=7").run()
    assert (session.engine.sampling.temperature, session.engine.sampling.top_k) == (0.2, 7)

    session.chat.handle("/set temp default")

    assert (session.engine.sampling.temperature, session.engine.sampling.top_k) == (0.8, 7)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("/set temp hot", "temp hot: it must be a number"),
        ("/set top-k 1.5", "top-k 1.5: it must be a whole number"),
        ("/set temp -1", "temperature is -1.0; it must be between 0.0 and 100.0"),
        ("/set temp nan", "temperature is nan"),
        ("/set heat 1", "there is no setting heat; /set lists them"),
        ("/set on-full explode", "it must be one of shift, drop, stop"),
        ("/set max-tokens 0", "it must be at least 1"),
        ("/stats maybe", "it must be one of on, off"),
    ],
)
def test_values_that_make_no_sense_change_nothing(typed: str, says: str) -> None:
    session = Session(typed)
    before = session.engine.sampling
    session.run()

    assert says in session.notes[0]
    assert session.engine.sampling == before


def test_settings_also_go_by_their_names_elsewhere() -> None:
    session = Session("/set temperature 0.5", "/set max_tokens 9").run()

    assert session.engine.sampling.temperature == 0.5
    assert session.chat.state.max_tokens == 9


@pytest.mark.parametrize("typed", ["/quit", "/bye", "/EXIT"])
def test_what_people_type_to_leave(typed: str) -> None:
    assert Session(typed, "never asked").run().engine.asked == []


def test_help_of_one_command() -> None:
    assert Session("/help undo").run().notes == [
        "/undo [N]: take back the last question, or the last N."
    ]


def test_raw_toggles() -> None:
    session = Session("/raw", "/raw", "/raw on").run()

    assert session.notes == [
        "Answers are shown as they come.",
        "Answers are shown as Markdown.",
        "Answers are shown as they come.",
    ]


def test_stats_of_the_last_answer() -> None:
    session = Session("/stats", "hello", "/stats").run()

    assert "no answer yet" in session.notes[0]
    assert "answer   3 tokens in 0.10 s, 20.0 tok/s; ended by stop" in session.notes[1]


def test_tokens_shows_what_the_context_holds() -> None:
    session = Session("/tokens", "one two three", "/tokens").run()

    empty, filled = session.notes
    assert empty.splitlines()[1].split() == ["▓", "2", "2", "%", "system", "text", "and", "format"]
    assert "█   5    5 %  the last question and its answer" in filled
    assert "93   93 %  free" in filled


def test_tokens_tells_what_left() -> None:
    session = Session(*["word " * 30] * 6, "/tokens").run()

    assert "oldest questions have left the context" in session.notes[-1]


def test_plan_says_where_the_model_is() -> None:
    (note,) = Session("/plan").run().notes

    assert note.startswith("layers: 3 on CPU")
    assert "all layers are on the CPU" in note


def test_a_file_goes_with_the_next_message_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("whales sing\n")
    session = Session(f"/file {tmp_path}/notes.txt", "summarise", "thanks").run()

    assert "notes.txt" in session.notes[0]
    assert "tokens" in session.notes[0]
    first, _, second, _ = session.turns
    assert first.content.startswith("summarise\n\n")
    assert "whales sing" in first.content
    assert second == Message("user", "thanks")


def test_files_are_listed_and_cleared(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    session = Session(f"/file {tmp_path}/a.txt", "/file", "/file clear", "hello").run()

    assert session.notes[0] == session.notes[1]
    assert session.turns[0] == Message("user", "hello")


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"\0\1\2", "is no text")])
def test_files_that_cannot_be_attached(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "x.bin"
    if content is not None:
        path.write_bytes(content)
    session = Session(f"/file {path}", "hello").run()

    assert says in session.notes[0]
    assert session.turns[0] == Message("user", "hello")


def test_another_model_goes_on_with_the_conversation(tiny_gguf: Path) -> None:
    session = Session("hello", f"/model {tiny_gguf}", "again").run()

    assert session.opened == [(str(tiny_gguf), None)]
    assert session.notes == ["tiny:Q8_0 (freewilly2) answers from now on."]
    assert len(session.engine.asked[-1]) == 4


def test_a_model_that_is_not_there_leaves_the_one_that_is() -> None:
    session = Session("/model ./nowhere.gguf", "hello").run()

    assert session.opened == []
    assert session.turns[1] == Message("assistant", "answer 1")


def test_another_prompt_format(tiny_gguf: Path) -> None:
    session = Session("/format", "/format chatml", "/format morse")
    session.chat.loaded = loaded(session.engine, str(tiny_gguf.with_suffix("")), level=None)
    session.run()

    assert session.notes[0] == "The prompt format is freewilly2."
    assert session.opened == [(str(tiny_gguf), "chatml")]
    assert "there is no prompt format morse" in session.notes[2]


def test_another_prompt_format_of_a_model_whose_file_is_gone(tmp_path: Path) -> None:
    session = Session("/format chatml", "hello")
    session.chat.loaded = loaded(session.engine, str(tmp_path / "gone"), level=None)
    session.run()

    assert "no such file" in session.notes[0]
    assert not session.engine.is_closed
    assert session.turns[1] == Message("assistant", "answer 1")


def test_copy_needs_an_answer() -> None:
    assert Session("/copy").run().notes == ["there is no answer to copy yet"]
    assert "no block of code" in Session("hello", "/copy code").run().notes[0]


def test_a_chat_is_saved_exported_and_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    session = Session("hello", "/save whales", f"/export {tmp_path}/a.md", folder=folder).run()
    session.chat.recorder.close()
    assert "hello" in (tmp_path / "a.md").read_text()

    again = Session("/load whales", "and now?", "/sessions", folder=folder).run()
    again.chat.recorder.close()

    assert again.engine.asked[0][1:] == [
        Message("user", "hello"),
        Message("assistant", "answer 1"),
        Message("user", "and now?"),
    ]
    assert "whales" in again.notes[-1]


def test_history_shows_what_was_said() -> None:
    session = Session("hello", "/history").run()

    assert session.notes == ["> hello"]
    assert session.said == "answer 1\nanswer 1\n"


def test_reset_keeps_the_chat_before(tmp_path: Path) -> None:
    session = Session("hello", "/save whales", "/reset", "again", folder=tmp_path).run()
    session.chat.recorder.close()

    assert session.notes[1] == "The conversation starts anew. The one before is kept as whales."
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert "again" not in (tmp_path / "whales.jsonl").read_text()


def test_load_of_a_missing_session(tmp_path: Path) -> None:
    session = Session("/load nothing", "hello", folder=tmp_path / "sessions").run()
    session.chat.recorder.close()

    assert "there is no session nothing" in session.notes[0]
    assert len(session.turns) == 2


def test_an_engine_that_is_closed_is_never_asked(tiny_gguf: Path) -> None:
    engine = FakeEngine()
    session = Session("/model ./nowhere.gguf", engine=engine).run()

    assert not engine.is_closed
    assert len(session.notes) == 1
