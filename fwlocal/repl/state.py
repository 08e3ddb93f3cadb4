"""What the user has set in a chat; it outlives the model that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fwlocal.answer import Result
from fwlocal.attachments import Attachment
from fwlocal.interrupts import Interrupt


@dataclass
class State:
    """``sampling`` are changes to the model's own; ``max_tokens`` None is the model's own too.
    ``on_full`` is what a full context does: "shift", "drop" or "stop". ``raw`` shows answers as
    they come, ``stats`` a line under each; ``attached`` goes with the next message; ``last`` is
    the last answer's result; ``draft`` is a message that could not be asked, to be changed;
    ``was_nearly_full`` is of the context after the last answer;
    ``at_work`` stops the answer or the load that is under way, None at the prompt;
    ``n_retries`` is how often the last message was asked again; ``n_left_before`` is how many
    questions had left the context when the last answer began."""

    sampling: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    on_full: str = "shift"
    raw: bool = False
    stats: bool = False
    keys: str = "emacs"
    attached: list[Attachment] = field(default_factory=list)
    last: Result | None = None
    draft: str = ""
    at_work: Interrupt | None = None
    was_nearly_full: bool = False
    n_retries: int = 0
    n_left_before: int = 0

    def forget_answers(self) -> None:
        """Another conversation begins; what was set stays."""
        self.last, self.n_left_before, self.was_nearly_full = None, 0, False
