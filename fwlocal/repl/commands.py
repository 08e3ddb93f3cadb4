"""The slash commands: one table is what they do and what ``/help`` says of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from fwlocal.conversation import Conversation
from fwlocal.errors import UsageError


@dataclass(frozen=True)
class Command:
    """``run`` changes the conversation and returns what to say, or None to leave the chat; after
    one that ``asks``, the conversation waits for an answer."""

    name: str
    help: str
    run: Callable[[Conversation], str | None]
    asks: bool = False


def _help(_: Conversation) -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS]
    return "\n".join([*lines, "  Ctrl-C stops an answer, Ctrl-D leaves."])


def _reset(conversation: Conversation) -> str:
    conversation.reset()
    return "The conversation starts anew."


def _retry(conversation: Conversation) -> str:
    conversation.ask_again()
    return ""


COMMANDS = (
    Command("/help", "show this", _help),
    Command("/retry", "ask the last message again", _retry, asks=True),
    Command("/reset", "forget the conversation", _reset),
    Command("/exit", "leave", lambda _: None),
)


def find(text: str) -> Command:
    """The command that ``text`` names. Raises UsageError, offering the nearest."""
    name = text.split()[0]
    commands = {command.name: command for command in COMMANDS}
    if name in commands:
        return commands[name]
    near = difflib.get_close_matches(name, commands, n=1)
    offer = f"did you mean {near[0]}?" if near else "/help lists the commands"
    raise UsageError(f"there is no command {name}; {offer}")
