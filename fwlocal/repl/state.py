"""What the user has set in a chat; it outlives the model that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fwlocal.answer import Result
from fwlocal.attachments import Attachment


@dataclass
class State:
    """``sampling`` are changes to the model's own; ``max_tokens`` None is the model's own too.
    ``on_full`` is what a full context does: "shift", "drop" or "stop". ``raw`` shows answers as
    they come, ``stats`` a line under each; ``attached`` goes with the next message; ``last`` is
    the last answer's result; ``draft`` is a message that could not be asked, to be changed;
    ``was_nearly_full`` is of the context after the last answer;
    ``n_retries`` is how often the last message was asked again."""

    sampling: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    on_full: str = "shift"
    raw: bool = False
    stats: bool = False
    keys: str = "emacs"
    attached: list[Attachment] = field(default_factory=list)
    last: Result | None = None
    draft: str = ""
    is_answering: bool = False
    was_nearly_full: bool = False
    n_retries: int = 0
