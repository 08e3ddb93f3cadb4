"""Room in the context: which of the oldest turns leave it, before an answer and in its middle."""

from __future__ import annotations

from fwlocal.answer import Result
from fwlocal.conversation import Conversation
from fwlocal.errors import PromptTooLong
from fwlocal.fitting import STOP, answer_room, fit
from fwlocal.repl.command import Sitting


def max_tokens(sitting: Sitting) -> int | None:
    """The most tokens of an answer: what was set, else the model's own; None for no limit."""
    chosen = sitting.state.max_tokens
    return sitting.engine.max_tokens if chosen is None else chosen


def make_room(sitting: Sitting, conversation: Conversation) -> None:
    """Let so many of the oldest turns leave that the prompt and an answer fit.

    Raises PromptTooLong where that cannot be, or is not wanted.
    """
    engine = sitting.engine
    conversation.n_left = fit(
        lambda n_left: engine.count(conversation.messages_without(n_left)),
        n_left=conversation.n_left,
        n_may_leave=conversation.n_may_leave,
        limit=engine.limit,
        room=answer_room(engine.limit, max_tokens(sitting)),
        on_full=sitting.state.on_full,
    )


def make_some_room(sitting: Sitting) -> bool:
    """Let half of the turns leave that may, where the memory holds less than the context could;
    False where none may, or none is to."""
    conversation = sitting.conversation
    n_more = (conversation.n_may_leave - conversation.n_left + 1) // 2
    if n_more < 1 or sitting.state.on_full == STOP:
        return False
    conversation.n_left += n_more
    return True


def is_full(sitting: Sitting, result: Result) -> bool:
    """Whether it is the context, or the memory for it, that cut an answer."""
    used = result.prompt_tokens + result.completion_tokens
    most = max_tokens(sitting)
    is_cut = result.finish_reason == "length"
    return is_cut and (used >= sitting.engine.limit or most is None)


def has_room_again(sitting: Sitting, result: Result, n_said: int) -> bool:
    """Whether an answer of ``n_said`` tokens that filled the context may go on, now that turns have
    left for it."""
    most, conversation = max_tokens(sitting), sitting.conversation
    is_at_its_end = most is not None and n_said >= most
    if not is_full(sitting, result) or is_at_its_end or sitting.state.on_full == STOP:
        return False
    n_left = conversation.n_left
    try:
        make_room(sitting, conversation)
    except PromptTooLong:
        return False
    return conversation.n_left > n_left or make_some_room(sitting)
