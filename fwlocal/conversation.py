"""A conversation: the system text, the turns so far, and which of them are in the context.

Whoever keeps a record of it is told of every change, as it happens; who that is, it does not know.
How many of the oldest turns must leave the context, ``fwlocal.fitting`` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from fwlocal.answer import Result
from fwlocal.errors import UsageError
from fwlocal.prompts import Message

ChangeKind = Literal[
    "user", "retry", "edit", "assistant", "continue", "continued", "unanswered", "undo", "system"
]


@dataclass(frozen=True)
class Change:
    """What happened to a conversation: a question was asked, asked again, or asked in other words
    (``text``); it was answered (with ``result``), or taken back unanswered; the last answer is to
    go on, and went on by ``text``; ``n_turns`` questions and their answers were undone; the system
    text became ``text``."""

    kind: ChangeKind
    text: str = ""
    n_turns: int = 0
    result: Result | None = None


@dataclass
class Conversation:
    """``system`` None or "" leaves the system text out; ``unanswered`` is a question that was taken
    back; ``on_change`` is told of every change after it. The oldest ``n_left`` questions have left
    the context with their answers; they are turns still. ``goes_on``: the last answer's rest is
    waited for."""

    system: str | None
    turns: list[Message] = field(default_factory=list)
    unanswered: str | None = None
    on_change: Callable[[Change], None] = lambda change: None
    n_left: int = 0
    _replaced: list[Message] = field(default_factory=list, init=False)  # by the one that is asked
    _n_left_before: int = field(default=0, init=False)  # when it was asked
    goes_on: bool = field(default=False, init=False)  # what waits is the last answer's rest

    @property
    def messages(self) -> list[Message]:
        """What the next prompt is rendered from."""
        return self.messages_without(self.n_left)

    def messages_without(self, n_left: int) -> list[Message]:
        """The same, were so many of the oldest questions to leave with their answers."""
        head = [Message("system", self.system)] if self.system else []
        return [*head, *self.turns[2 * n_left :]]

    @property
    def n_may_leave(self) -> int:
        """Questions that may leave: all with an answer, but for the last turn's own."""
        return max(0, len(self.turns) - 1) // 2

    @property
    def last_question(self) -> str:
        """What was asked last, answered or not. Raises UsageError when nothing was asked yet."""
        if self.unanswered is not None:
            return self.unanswered
        asked = [turn.content for turn in self.turns if turn.role == "user"]
        if not asked:
            raise UsageError("nothing was asked yet")
        return asked[-1]

    def ask(self, text: str) -> None:
        """Add the user's turn."""
        self._ask(text)
        self.on_change(Change("user", text))

    def _ask(self, text: str) -> None:
        self.unanswered, self._replaced = None, []
        self._n_left_before, self.goes_on = self.n_left, False
        self.turns.append(Message("user", text))

    def ask_again(self) -> None:
        """Add the last question again: the one that was taken back, or the last with its answer,
        which makes room. Raises UsageError when nothing was asked yet."""
        if self.unanswered is None and not self.turns:
            raise UsageError("there is nothing to ask again yet")
        self._ask_instead(self.last_question)
        self.on_change(Change("retry"))

    def _ask_instead(self, text: str) -> None:
        """Add a question in place of the last one and its answer, if it has any."""
        replaced = self.turns[-2:] if self.unanswered is None else []
        del self.turns[len(self.turns) - len(replaced) :]
        self._ask(text)
        self._replaced = replaced

    def edit_last(self, text: str) -> None:
        """Ask ``text`` in place of the last question and its answer. Raises UsageError when nothing
        was asked yet."""
        if not self.turns and self.unanswered is None:
            raise UsageError("there is no message to edit yet")
        self._ask_instead(text)
        self.on_change(Change("edit", text))

    def go_on(self) -> None:
        """Have the last answer go on; ``continued`` or ``take_back`` ends that. Raises UsageError
        when there is none."""
        if not self.turns:
            raise UsageError("there is no answer to go on with yet")
        self._n_left_before, self.goes_on = self.n_left, True
        self.on_change(Change("continue"))

    def take_back(self) -> None:
        """Remove the user's turn that got no answer; an answer that made room for it is back, and
        so are the turns that left for it. An answer that did not go on stays as it was."""
        self.n_left = self._n_left_before
        if self.goes_on:
            self.goes_on = False
        else:
            question = self.turns.pop()
            if self._replaced:
                self.turns += self._replaced
            else:
                self.unanswered = question.content
        self.on_change(Change("unanswered"))

    def settle(self) -> None:
        """Take back what still waits for an answer, if anything does."""
        if self.goes_on or len(self.turns) % 2:
            self.take_back()

    def answered(self, result: Result) -> None:
        """Add the assistant's turn, or what its last one went on with."""
        if self.goes_on:
            self.continued(result)
            return
        self.turns.append(result.message)
        self.on_change(Change("assistant", result.text, result=result))

    def continued(self, result: Result) -> None:
        """Add what the last answer went on with, to its text and its tokens."""
        before, self.goes_on = self.turns[-1], False
        kept = before.content[: len(before.content) - result.n_dropped]
        more = result.message
        text = kept + result.text
        tokens = (*before.tokens, *more.tokens) if before.tokens or not kept else ()
        if result.finish_reason == "stop":
            text = text.rstrip()
        self.turns[-1] = Message("assistant", text, tokens)
        self.on_change(Change("continued", result.text, result=result))

    def undo(self, n_turns: int = 1) -> None:
        """Remove the last questions and their answers; where none of those before is in the context
        they are back in it. Raises UsageError if they are fewer."""
        n_all = len(self.turns) // 2
        if not 1 <= n_turns <= n_all:
            so_far = "is 1 question" if n_all == 1 else f"are {n_all} questions"
            raise UsageError(f"{n_turns} cannot be undone; there {so_far} so far")
        del self.turns[-2 * n_turns :]
        if self.n_left >= n_all - n_turns:
            self.n_left = 0
        self.unanswered = None
        self.on_change(Change("undo", n_turns=n_turns))

    def forget_tokens(self) -> None:
        """Another vocabulary answers from now on: what was said is its text alone."""
        for turns in (self.turns, self._replaced):
            turns[:] = [replace(turn, tokens=()) for turn in turns]

    def set_system(self, text: str | None) -> None:
        """Replace the system text; None or "" leaves it out."""
        self.system = text
        self.on_change(Change("system", text or ""))
