"""The chat on a real terminal: prompt-toolkit reads, stdout takes the answers."""

from __future__ import annotations

import sys

from prompt_toolkit import PromptSession

from fwlocal.conversation import Conversation
from fwlocal.loader import LoadedModel
from fwlocal.repl.loop import Chat


def chat_on_terminal(
    loaded: LoadedModel, system: str | None, max_tokens: int | None = None
) -> None:
    """Chat until the user leaves."""
    session: PromptSession[str] = PromptSession()

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    print(f"{loaded.file.name} ({loaded.prompt_format}). /help lists the commands.")
    chat = Chat(
        engine=loaded.engine,
        conversation=Conversation(system),
        ask=lambda: session.prompt("> "),
        say=say,
        note=print,
        max_tokens=max_tokens,
    )
    chat.run()
