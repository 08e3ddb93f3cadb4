"""The slash commands: one table is what they do and what ``/help`` says of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from fwlocal.conversation import Conversation
from fwlocal.errors import UsageError


@dataclass(frozen=True)
class Command:
    """``run`` changes the conversation and returns what to say, or None to leave the chat."""

    name: str
    help: str
    run: Callable[[Conversation], str | None]


def _help(_: Conversation) -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS]
    return "\n".join([*lines, "  Ctrl-C stops an answer, Ctrl-D leaves."])


def _reset(conversation: Conversation) -> str:
    conversation.reset()
    return "The conversation starts anew."


COMMANDS = (
    Command("/help", "show this", _help),
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
