"""An empty folder of sessions, and chats kept in it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fwlocal.answer import FinishReason, Result, Timings
from fwlocal.cli import main
from fwlocal.conversation import Conversation
from fwlocal.sessions.events import Speaker
from fwlocal.sessions.folder import Folder
from fwlocal.sessions.recording import Recorder

SPEAKER = Speaker("whale:Q8_0", "Q8_0", "chatml")
NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def result(text: str, reason: FinishReason = "stop") -> Result:
    """An answer of the model."""
    return Result(text, (), reason, 10, 3, 7, 42, Timings(0, 0.1, 0.1, 0.2, 100, 10))


class Kept:
    """A chat that is kept: what it is, what its user was told, and its clock."""

    def __init__(self, folder: Folder, *, saves: bool = True) -> None:
        self.told: list[str] = []
        self.time = NOON
        self.recorder = Recorder(folder, saves=saves, warn=self.told.append, now=lambda: self.time)
        self.conversation = Conversation("be kind")

    def begin(self) -> Kept:
        self.recorder.begin(SPEAKER, "be kind")
        self.conversation.on_change = self.recorder.note
        return self

    def pieces(self, *texts: str) -> Kept:
        """An answer as it is written, a piece every 0.6 seconds."""
        for text in texts:
            self.time += 0.6
            self.recorder.piece(text)
        return self

    def say(self, question: str, answer: str) -> Kept:
        self.conversation.ask(question)
        self.conversation.answered(result(answer))
        return self


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty folder of sessions, for this process and the programs it starts."""
    root = tmp_path / "sessions"
    monkeypatch.setenv("FWLOCAL_SESSIONS", str(root))
    return Folder(root)


@pytest.fixture
def whales(folder: Folder) -> Path:
    """A saved chat of two turns, called ``whales``."""
    kept = Kept(folder).begin()
    kept.recorder.open("whales")
    kept.say("Do whales sing?", "They **do**.").say("Why?", "Nobody knows.")
    kept.recorder.close()
    return folder.path("whales")


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Callable[..., CompletedProcess[str]]:
    """``fwlocal sessions`` with these arguments, in this process; nobody is at its stdin."""
    logger = logging.getLogger("fwlocal")

    def run(*arguments: str | Path) -> CompletedProcess[str]:
        handler, handlers = signal.getsignal(signal.SIGTERM), list(logger.handlers)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as left:
                main(["sessions", *map(str, arguments)])
        finally:
            signal.signal(signal.SIGTERM, handler)
            logger.handlers = handlers
        said = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return CompletedProcess(arguments, code, said.out, said.err)

    return run
