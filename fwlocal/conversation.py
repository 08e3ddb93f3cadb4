"""A conversation: the system text and the turns so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from fwlocal.answer import Result
from fwlocal.prompts import Message


@dataclass
class Conversation:
    """``system`` None or "" leaves the system text out."""

    system: str | None
    turns: list[Message] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        """What the next prompt is rendered from."""
        head = [Message("system", self.system)] if self.system else []
        return [*head, *self.turns]

    def ask(self, text: str) -> None:
        """Add the user's turn."""
        self.turns.append(Message("user", text))

    def take_back(self) -> None:
        """Remove the user's turn that got no answer."""
        self.turns.pop()

    def answered(self, result: Result) -> None:
        """Add the assistant's turn."""
        self.turns.append(result.message)

    def reset(self) -> None:
        """Forget all turns; the system text stays."""
        self.turns.clear()
