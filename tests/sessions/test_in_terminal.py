"""Chats that are not lost, in a real terminal: killed, hung up, held twice, with no place."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import gguf
import pytest

from fwlocal.sessions.events import Event, Header, Said, Speaker, encode
from fwlocal.sessions.folder import Folder
from fwlocal.sessions.growing import read_file
from fwlocal.sessions.reading import Session
from tests import tiny_llama

pytest.importorskip("pexpect")
pytest.importorskip("pyte")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")

if sys.platform != "win32":
    from tests.terminal import Terminal, fwlocal

LONG = tiny_llama.Shape(max_position_embeddings=65536)
Chat = Callable[..., "Terminal"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that never ends an answer: that token's logit is 0, another's is more."""
    path = tmp_path_factory.mktemp("talker") / "talker.gguf"
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tiny_llama.write_gguf(path, LONG, template=template)
    tensors = gguf.GGUFReader(path, "r+").tensors
    next(t for t in tensors if t.name == "output.weight").data[tiny_llama.EOS] = 0
    return path


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Where the chats are."""
    monkeypatch.setenv("FWLOCAL_SESSIONS", str(tmp_path / "sessions"))
    monkeypatch.setenv("FWLOCAL_HISTORY", str(tmp_path / "history.jsonl"))
    return Folder(tmp_path / "sessions")


@pytest.fixture
def chat(model: Path, folder: Folder) -> Iterator[Chat]:
    """``fwlocal chat`` in a terminal, its first prompt there; an answer has 6 tokens unless it is
    ``endless``. The model is named unless it is ``remembered``."""
    with ExitStack() as open_ones:

        def start(*options: str, endless: bool = False, remembered: bool = False) -> Terminal:
            named = () if remembered else ("-m", model)
            length = () if endless else ("--max-tokens", "6")
            command = fwlocal("chat", *named, "--temp", "0", "--threads", "1", *length, *options)
            terminal = open_ones.enter_context(Terminal(command, columns=100))
            terminal.wait_for_prompt()
            return terminal

        yield start


def the_session(folder: Folder) -> Session:
    (name,) = folder.names()
    return read_file(folder.path(name))


def has_turns(folder: Folder, n_turns: int) -> Callable[[], bool]:
    """Whether so many questions were answered, on the disk."""
    return lambda: bool(folder.names()) and the_session(folder).n_turns == n_turns


def is_talking(folder: Folder) -> Callable[[], bool]:
    """Whether a part of an answer is on the disk."""

    def look() -> bool:
        files = list(folder.root.glob("*.jsonl"))
        return bool(files) and b'"piece"' in files[0].read_bytes()

    return look


def test_killed_in_mid_answer_and_continued(chat: Chat, folder: Folder) -> None:
    killed = chat(endless=True)
    killed.send("Do whales sing?")
    killed.until(is_talking(folder))
    os.kill(killed.child.pid, signal.SIGKILL)
    assert killed.exit_code() == -signal.SIGKILL
    before = the_session(folder)
    assert [turn.role for turn in before.turns] == ["user", "assistant"]
    assert before.turns[1].text
    assert before.damages == ()

    again = chat("--continue", remembered=True)
    assert "1 turn" in again.text()
    again.send("Really?")
    again.until(has_turns(folder, 2))
    again.wait_for_prompt()
    again.send("/exit")
    assert again.exit_code() == 0
    after = the_session(folder)
    assert [turn.text for turn in after.turns[:3]] == [
        *(turn.text for turn in before.turns),
        "Really?",
    ]
    assert after.turns[-1].said is not None
    assert after.turns[-1].said.finish_reason == "length"


def test_a_terminal_that_disappears_in_mid_answer(chat: Chat, folder: Folder) -> None:
    gone = chat(endless=True)
    gone.send("Do whales sing?")
    gone.until(is_talking(folder))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), gone.child.child_fd)  # as a window that is closed
    gone.child.wait()

    assert (gone.child.exitstatus, gone.child.signalstatus) == (129, None)
    (_, answer) = the_session(folder).turns
    assert answer.said is not None
    assert answer.said.finish_reason == "interrupt"
    assert answer.said.completion_tokens > 0


def test_a_terminal_that_disappears_at_the_prompt(chat: Chat, folder: Folder) -> None:
    gone = chat()
    gone.send("hello")
    gone.until(has_turns(folder, 1))
    gone.wait_for_prompt()
    gone.type("not sent")
    gone.take()
    os.kill(gone.child.pid, signal.SIGHUP)

    assert gone.exit_code() == 129
    assert "Traceback" not in gone.text()
    assert the_session(folder).n_turns == 1
    assert not [path.name for path in folder.root.iterdir() if path.name.startswith(".")]


def test_two_chats_on_one_session(chat: Chat, folder: Folder, model: Path) -> None:
    chat("--session", "whales").ask("hello")
    with Terminal(fwlocal("chat", "-m", model, "--session", "whales")) as second:
        second.wait_for("session whales: process")
        assert "--session NAME" in " ".join(second.lines())
        assert second.exit_code() == 1

    other = chat()
    assert "leave that chat" in " ".join(other.ask("/load whales"))
    other.send("/exit")
    assert other.exit_code() == 0


def test_a_chat_whose_model_is_gone(
    chat: Chat, folder: Folder, model: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.gguf"
    shutil.copy(model, moved)
    first = chat("-m", str(moved), remembered=True)
    first.send("hello")
    first.until(has_turns(folder, 1))
    first.wait_for_prompt()
    first.send("/exit")
    assert first.exit_code() == 0
    moved.unlink()

    with Terminal(fwlocal("chat", "--continue"), columns=300) as lost:
        lost.wait_for("no such file; the chat goes on with another by -m MODEL")
        assert lost.exit_code() == 1
    assert "1 turn" in chat("--continue").text()


def test_saved_loaded_listed_and_exported(chat: Chat, folder: Folder, tmp_path: Path) -> None:
    terminal = chat()
    terminal.ask("hello")
    assert "whales.jsonl" in "".join(terminal.ask("/save whales"))
    terminal.ask(f"/export {tmp_path / 'a.md'}")
    assert (tmp_path / "a.md").read_text(encoding="utf-8").startswith("# whales\n")
    terminal.send("/exit")
    assert terminal.exit_code() == 0

    other = chat()
    assert "did you mean whales" in " ".join(other.ask("/load whale"))
    assert "Going on with whales: 1 turn." in " ".join(other.ask("/load whales"))
    assert "whales" in " ".join(other.ask("/sessions"))
    other.ask("and?")
    other.send("/exit")
    assert other.exit_code() == 0
    assert the_session(folder).n_turns == 2


def test_where_nothing_can_be_written_the_chat_goes_on(chat: Chat, folder: Folder) -> None:
    folder.root.touch()  # in place of the folder, which root neither can make then
    terminal = chat()
    terminal.ask("hello")

    assert "this chat goes on unsaved" in " ".join(terminal.lines())
    assert "/exit" not in " ".join(terminal.ask("and?"))
    terminal.send("/exit")
    assert terminal.exit_code() == 0
    assert "the end of this chat could not be saved" in terminal.text()


def test_a_temporary_chat_writes_nothing_at_all(
    chat: Chat, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    before = sorted(tmp_path.rglob("*"))
    terminal = chat("--no-save")
    terminal.ask("hello")
    terminal.send("/exit")

    assert terminal.exit_code() == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_saved_chat_is_shown_as_it_was_drawn(folder: Folder) -> None:
    said = (Event("user", "", "Which?"), Event("assistant", "", "The **blue** one.", said=Said()))
    folder.root.mkdir()
    head = encode(Header("2026-11-22", Speaker(), None))
    folder.path("whales").write_bytes(head + b"".join(map(encode, said)))

    with Terminal(fwlocal("sessions", "show", "whales")) as terminal:
        terminal.wait_for("The blue one.")
        assert terminal.exit_code() == 0
