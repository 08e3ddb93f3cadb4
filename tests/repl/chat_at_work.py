"""The chat, its screen and its editor, with an engine that answers what it is given.

``python tests/repl/chat_at_work.py ANSWER.md [SECONDS]``: every answer is that file, four
characters at a time, each after so many seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from pathlib import Path

from fwlocal.answer import FinishReason, Result, Timings
from fwlocal.conversation import Conversation
from fwlocal.repl.commands import COMMANDS
from fwlocal.repl.editor import Editor, QuietKeys
from fwlocal.repl.loop import Chat
from fwlocal.repl.screen import TerminalScreen
from fwlocal.repl.state import State
from tests.repl.fakes import FakeEngine, loaded

PIECE = 4  # characters, about a token


class Reciter(FakeEngine):
    """Says ``text``, until it is interrupted."""

    def __init__(self, text: str, pause_s: float) -> None:
        super().__init__(limit=100_000)
        self.text, self.pause_s = text, pause_s

    def steps(self, number: int, prompt_tokens: int) -> Generator[str, None, Result]:
        said = 0
        while said < len(self.text) and not self.interrupt.is_set():
            yield self.text[said : said + PIECE]
            said += PIECE
            time.sleep(self.pause_s)
        reason: FinishReason = "interrupt" if self.interrupt.is_set() else "stop"
        timings = Timings(0, 0.1, 0.1, 1.0, 100.0, 50.0)
        return Result(self.text[:said], (), reason, prompt_tokens, said // PIECE, 0, 1, timings)


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    pause_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    state = State()
    with QuietKeys():
        Chat(
            loaded=loaded(Reciter(text, pause_s)),
            conversation=Conversation(None),
            screen=TerminalScreen(Editor(COMMANDS), state),
            open=lambda model, prompt_format: loaded(Reciter(text, pause_s), model),
            state=state,
        ).run()


if __name__ == "__main__":
    main()
