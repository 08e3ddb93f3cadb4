"""A conversation: the system text and the turns so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from fwlocal.answer import Result
from fwlocal.errors import UsageError
from fwlocal.prompts import Message


@dataclass
class Conversation:
    """``system`` None or "" leaves the system text out."""

    system: str | None
    turns: list[Message] = field(default_factory=list)
    _unanswered: str | None = field(default=None, init=False)  # the question taken back last
    _replaced: list[Message] = field(default_factory=list, init=False)  # by the one that is asked

    @property
    def messages(self) -> list[Message]:
        """What the next prompt is rendered from."""
        head = [Message("system", self.system)] if self.system else []
        return [*head, *self.turns]

    def ask(self, text: str) -> None:
        """Add the user's turn."""
        self._unanswered, self._replaced = None, []
        self.turns.append(Message("user", text))

    def ask_again(self) -> None:
        """Add the last question again: the one that was taken back, or the last with its answer,
        which makes room. Raises UsageError when nothing was asked yet."""
        if self._unanswered is not None:
            self.ask(self._unanswered)
        elif self.turns:
            replaced = self.turns[-2:]
            del self.turns[-2:]
            self.ask(replaced[0].content)
            self._replaced = replaced
        else:
            raise UsageError("there is nothing to ask again yet")

    def take_back(self) -> None:
        """Remove the user's turn that got no answer; an answer that made room for it is back."""
        question = self.turns.pop()
        if self._replaced:
            self.turns += self._replaced
        else:
            self._unanswered = question.content

    def answered(self, result: Result) -> None:
        """Add the assistant's turn."""
        self.turns.append(result.message)

    def reset(self) -> None:
        """Forget all turns; the system text stays."""
        self.turns.clear()
        self._unanswered = None
