"""Commands on what is said: again, on, back, anew, and the system text."""

from __future__ import annotations

from fwlocal.conversation import Conversation
from fwlocal.errors import UsageError
from fwlocal.repl.command import Command, Sitting

NO_SYSTEM = ("off", '""', "''")


def _retry(sitting: Sitting, _: str) -> str:
    sitting.conversation.ask_again()
    sitting.state.n_retries += 1
    is_greedy = sitting.engine.sampling.temperature == 0
    return "(at temperature 0 the answer is the same; /set temp 0.8)" if is_greedy else ""


def _continue(sitting: Sitting, _: str) -> str:
    sitting.conversation.go_on()
    return ""


def _undo(sitting: Sitting, typed: str) -> str:
    if typed and not (typed.isdecimal() and int(typed)):
        raise UsageError(f"/undo takes how many questions, 1 or more, not {typed!r}")
    n_turns = int(typed or "1")
    sitting.conversation.undo(n_turns)
    what = "The last question and its answer are" if n_turns == 1 else f"{n_turns} questions are"
    return f"{what} taken back."


def _edit(sitting: Sitting, _: str) -> str:
    before = sitting.conversation.last_question
    after = sitting.screen.edit(before).strip()
    if not after or after == before:
        raise UsageError("nothing was changed, so nothing is asked")
    sitting.conversation.edit_last(after)
    sitting.state.draft = after  # should it not be answered
    return f"> {after}"


def _reset(sitting: Sitting, _: str) -> str:
    system = sitting.conversation.system
    left = sitting.recorder.start_over(system)
    sitting.go_on_with(Conversation(system))
    kept = f" The one before is kept as {left}." if left else ""
    return f"The conversation starts anew.{kept}"


def _system(sitting: Sitting, text: str) -> str:
    conversation = sitting.conversation
    if not text:
        return conversation.system or "There is no system text; /system TEXT sets one."
    is_none = text in NO_SYSTEM
    conversation.set_system(None if is_none else text)
    return "There is no system text from now on." if is_none else "The system text is set."


TALK_COMMANDS = (
    Command("/retry", "ask the last message again, with another seed", _retry, asks=True),
    Command("/continue", "go on with an answer that was cut", _continue, asks=True),
    Command("/edit", "change your last message in $EDITOR and ask it", _edit, asks=True),
    Command("/undo", "take back the last question, or the last N", _undo, argument="[N]"),
    Command("/reset", "begin a new conversation", _reset),
    Command("/system", "show the system text, or set it (off: none)", _system, argument="[TEXT]"),
)
