"""An answer in a chat: room is made for it, it streams, and the conversation has it.

What the answer looks like is for the screen's writer; which model gives it, for the engine.
"""

from __future__ import annotations

import signal

from fwlocal.answer import Generation, Result
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted
from fwlocal.fitting import SHIFT, STOP
from fwlocal.interrupts import catching
from fwlocal.repl.command import Sitting, Writer
from fwlocal.repl.figures import percent, stats_line
from fwlocal.repl.room import has_room_again, is_full, make_room, make_some_room, max_tokens
from fwlocal.repl.showing import last_line

NEARLY_FULL = 0.8  # of the context


def respond(sitting: Sitting) -> None:
    """Stream the answer that the conversation waits for; what was said before Ctrl-C stays.

    An answer that fills the context goes on once the oldest turns have left. Raises the engine's
    errors, after which the question is taken back, and Interrupted when the process is terminated.
    """
    conversation, screen = sitting.conversation, sitting.screen
    sitting.engine.interrupt.clear()
    n_left, is_rest = conversation.n_left, conversation.goes_on
    try:
        make_room(sitting, conversation)
    except FwlocalError:
        conversation.take_back()
        raise
    n_left = _tell_left(sitting, n_left)
    writer = screen.writer(raw=sitting.state.raw)
    try:
        with screen.answering():
            if is_rest:
                writer.feed(last_line(conversation.turns[-1].content))
            first = result = _speak(sitting, writer, n_said=0)
            n_said = result.completion_tokens
            while has_room_again(sitting, result, n_said):
                conversation.go_on()
                result = _speak(sitting, writer, n_said)
                n_said += result.completion_tokens
    finally:
        writer.end()
    _tell_left(sitting, n_left)
    if is_rest and not result.text:
        screen.note("(the answer had come to its end; nothing was added)")
    _tell_end(sitting, result, n_said, first)
    if sitting.engine.interrupt.signal not in (None, signal.SIGINT):
        raise Interrupted("terminated", exit_code=sitting.engine.interrupt.exit_code)


def _speak(sitting: Sitting, writer: Writer, n_said: int) -> Result:
    """Ask, show what comes, and add it to the conversation; ``n_said`` tokens count already."""
    conversation, state = sitting.conversation, sitting.state
    state.at_work = sitting.engine.interrupt
    try:
        with catching(sitting.engine.interrupt, patient=True):
            generation = _begun(sitting, n_said)
            for piece in generation:
                sitting.recorder.piece(piece)
                writer.feed(piece)
            state.last = result = generation.result
            if result.text or conversation.goes_on:
                conversation.answered(result)
            else:
                conversation.take_back()
    except FwlocalError:
        conversation.take_back()  # /retry asks it again
        raise
    finally:
        state.at_work = None
    return result


def _begun(sitting: Sitting, n_said: int) -> Generation:
    """The answer, begun; where the memory for so long a context is refused, turns leave it."""
    most, state, conversation = max_tokens(sitting), sitting.state, sitting.conversation
    while True:
        # Only turns that left may leave a trace in what is kept: words that were edited away, or a
        # former system text, may not.
        has_left = conversation.n_left > state.n_left_before
        try:
            generation = sitting.engine.chat(
                conversation.messages,
                # a question that is asked again has another seed, also where one is set
                sampling=sitting.engine.sampling.following(state.n_retries),
                max_tokens=None if most is None else most - n_said,
                may_shift=has_left and state.on_full == SHIFT,
            )
        except DoesNotFit:
            if not make_some_room(sitting):
                raise
        else:
            state.n_left_before = conversation.n_left
            return generation


def _tell_left(sitting: Sitting, n_before: int) -> int:
    """Say how many questions have left the context since; how many are out of it now."""
    n_left = sitting.conversation.n_left
    if n_left > n_before:
        what = (
            "oldest question" if n_left == n_before + 1 else f"{n_left - n_before} oldest questions"
        )
        sitting.screen.note(
            f"(the context was full: the {what} left it, answers included; /tokens)"
        )
    return n_left


def _tell_end(sitting: Sitting, result: Result, n_said: int, first: Result) -> None:
    """How an answer of ``n_said`` tokens ended, if not by itself, what it took, and whether the
    context fills up; ``result`` is of its last part."""
    note, limit = sitting.screen.note, sitting.engine.limit
    used = result.prompt_tokens + result.completion_tokens
    if result.finish_reason == "interrupt":
        note("(stopped)")
    elif is_full(sitting, result):
        note("(cut: the context is full; /reset starts anew)")
    elif result.finish_reason == "length":
        note(f"(cut after {n_said} tokens; /continue goes on)")
    if sitting.state.stats:
        note(stats_line(result, first, limit))
    is_nearly_full = NEARLY_FULL * limit <= used < limit
    if is_nearly_full and not sitting.state.was_nearly_full:
        after = "the chat stops" if sitting.state.on_full == STOP else "the oldest turns leave"
        note(f"(the context is {percent(used, limit)} full; when it is, {after}; /tokens)")
    sitting.state.was_nearly_full = is_nearly_full
