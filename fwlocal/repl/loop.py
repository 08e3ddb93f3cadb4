"""The chat's loop: read a message, stream the answer, again.

It reads through ``ask`` and writes through ``say``, and knows no terminal.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from fwlocal.answer import Result
from fwlocal.conversation import Conversation
from fwlocal.engine import EngineLike
from fwlocal.errors import FwlocalError, Interrupted, WorkerLost
from fwlocal.interrupts import catching
from fwlocal.repl.commands import find
from fwlocal.terminal import inert

LEAVE_HINT = "(Ctrl-D or /exit leaves)"


@dataclass
class Chat:
    """One chat. ``ask`` returns a line or raises EOFError (leave) or KeyboardInterrupt; ``say``
    writes answers; ``note`` writes a line of the program's own."""

    engine: EngineLike
    conversation: Conversation
    ask: Callable[[], str]
    say: Callable[[str], None]
    note: Callable[[str], None]
    max_tokens: int | None = None

    def run(self) -> None:
        """Chat until the user leaves. Raises Interrupted when the process is terminated."""
        while True:
            try:
                text = self.ask().strip()
            except KeyboardInterrupt:
                self.note(LEAVE_HINT)
                continue
            except EOFError:
                return
            if text and not self.handle(text):
                return

    def handle(self, text: str) -> bool:
        """Run a command or answer a message; False to leave. A user's error is said and passes."""
        try:
            return self.obey(text) if text.startswith("/") else self.answer(text)
        except Interrupted:
            if self.engine.interrupt.signal != signal.SIGINT:
                raise
            self.note("(stopped)")
        except WorkerLost as error:
            self.note(f"{error.lost} /retry")
        except FwlocalError as error:
            self.note(str(error))
        return True

    def obey(self, text: str) -> bool:
        """Run a command; False to leave."""
        command = find(text)
        said = command.run(self.conversation)
        if said:
            self.note(said)
        if command.asks:
            self.respond()
        return said is not None

    def answer(self, text: str) -> bool:
        """Answer a message."""
        self.conversation.ask(text)
        self.respond()
        return True

    def respond(self) -> None:
        """Stream the answer that the conversation waits for; what was said before Ctrl-C stays."""
        interrupt = self.engine.interrupt
        interrupt.clear()
        said = False
        try:
            with catching(interrupt, patient=True):
                messages = self.conversation.messages
                generation = self.engine.chat(messages, max_tokens=self.max_tokens)
                for piece in generation:
                    self.say(inert(piece))
                    said = True
        except FwlocalError:
            self.conversation.take_back()  # /retry asks it again
            if said:
                self.say("\n")
            raise
        self.say("\n")
        if generation.result.text:
            self.conversation.answered(generation.result)
        else:
            self.conversation.take_back()
        self._explain_end(generation.result)
        if interrupt.signal == signal.SIGTERM:
            raise Interrupted("terminated", exit_code=interrupt.exit_code)

    def _explain_end(self, result: Result) -> None:
        if result.finish_reason == "interrupt":
            self.note("(stopped)")
        elif result.finish_reason == "length":
            full = result.prompt_tokens + result.completion_tokens >= self.engine.limit
            self.note("(cut: the context is full; /reset starts anew)" if full else "(cut)")
