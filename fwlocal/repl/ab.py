"""``/ab``: the last question, or a new one, answered by two levels; the one that is picked stays.

Nothing of the chat changes before the pick: not the conversation, and not the model that answers.
"""

from __future__ import annotations

from collections.abc import Iterator

from fwlocal import hardware
from fwlocal.ab.asked import Asked, parse
from fwlocal.ab.sides import Side, find_sides
from fwlocal.answer import Result
from fwlocal.conversation import Conversation
from fwlocal.errors import ModelNotFound, UsageError
from fwlocal.loader import Library
from fwlocal.repl.command import Command, Offer, Sitting
from fwlocal.repl.duel import Available, Duel
from fwlocal.repl.files import with_attachments
from fwlocal.repl.room import make_room

KEPT_NOTE = "Neither is kept; the conversation is as it was."


def _available() -> int:
    return hardware.memory().available_bytes


def compare(sitting: Sitting, typed: str, available: Available = _available) -> str:
    """Run ``/ab``; what to say. ``available`` tells the bytes of RAM that are."""
    asked = parse(typed)
    question = with_attachments(asked.message, sitting.state.attached) if asked.message else ""
    conversation = _asked(sitting, question)
    sides = _sides(sitting, asked)
    duel = Duel(sitting, sides, tuple(conversation.messages), available)
    picked = duel.held()
    if picked is None:
        return duel.ending or KEPT_NOTE
    side, result = picked
    _keep(sitting, question, conversation.n_left, result)
    return f"Going on with {side.label}."


def _sides(sitting: Sitting, asked: Asked) -> tuple[Side, Side]:
    """The two models. Raises FwlocalError; where the message may have been taken for a name, it
    says so."""
    try:
        return find_sides(asked.names, sitting.loaded, Library.default())
    except ModelNotFound as error:
        if asked.message and f"no model is called {asked.names[-1]!r}" in str(error):
            hint = "before a message, /ab takes two names: /ab A B MESSAGE"
            raise ModelNotFound(f"no model is called {asked.names[-1]!r}; {hint}") from error
        raise


def _asked(sitting: Sitting, question: str) -> Conversation:
    """The conversation as it would be with the question, or the last one again, so that the chat's
    own stays as it is; the oldest turns have left it where they must. Raises UsageError where there
    is nothing to ask, and PromptTooLong."""
    own = sitting.conversation
    asked = Conversation(own.system, list(own.turns), own.unanswered, n_left=own.n_left)
    if question:
        asked.ask(question)
    elif own.turns or own.unanswered is not None:
        asked.ask_again()
    else:
        raise UsageError("there is nothing to ask again yet; /ab A B MESSAGE asks both of them")
    make_room(sitting, asked)
    return asked


def _keep(sitting: Sitting, question: str, n_left: int, result: Result) -> None:
    """The picked answer becomes that of the conversation."""
    conversation = sitting.conversation
    if question:
        conversation.ask(question)
        sitting.state.attached.clear()
    else:
        conversation.ask_again()
    conversation.n_left = n_left
    conversation.answered(result)
    sitting.state.last = result


def _offers(typed: str) -> Iterator[Offer]:
    """Levels and models for the first two words."""
    *before, word = typed.split(" ")
    if len(before) > 1:
        return
    library = Library.default()
    stored = library.store.entries(library.registry)
    names = [*(one.level for one in stored), *(f"{one.name}:{one.level}" for one in stored)]
    for name in dict.fromkeys(names):
        if name.lower().startswith(word.lower()):
            yield " ".join([*before, name]), ""


AB_COMMANDS = (
    Command(
        "/ab",
        "the same answered by two levels, side by side; pick one",
        compare,
        "A B [MESSAGE]",
        completes=_offers,
    ),
)
