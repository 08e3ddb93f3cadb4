"""What was said before, shown again: turns of a chat that goes on, the end of a cut answer."""

from __future__ import annotations

from collections.abc import Sequence

from fwlocal.prompts import Message
from fwlocal.repl.command import Command, Sitting

MOST_OF_A_QUESTION = 400  # characters; files that were attached are in it
_FENCES = ("```", "~~~")


def show_turns(sitting: Sitting, turns: Sequence[Message]) -> None:
    """Show questions as they were typed, and answers as they were."""
    for turn in turns:
        if turn.role == "user":
            shown = turn.content[:MOST_OF_A_QUESTION]
            sitting.screen.note(f"> {shown}{'…' if shown != turn.content else ''}")
            continue
        writer = sitting.screen.writer(raw=sitting.state.raw)
        writer.feed(turn.content)
        writer.end()


def last_line(text: str) -> str:
    """The end of an answer that goes on, to be shown again: its last line, and before it the fence
    that opened the code it is in, if it is in any."""
    fence, lines = "", text.split("\n")
    for line in lines[:-1]:
        start = line.lstrip()[:3]
        if start in _FENCES:
            fence = "" if fence else f"{line}\n"
    return fence + lines[-1]


def _history(sitting: Sitting, _: str) -> str:
    show_turns(sitting, sitting.conversation.turns)
    return "" if sitting.conversation.turns else "Nothing was said yet."


HISTORY_COMMANDS = (Command("/history", "show all that was said", _history),)
