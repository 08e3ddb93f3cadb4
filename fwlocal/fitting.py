"""What happens when a conversation no longer fits the context: how many of its oldest turns leave.

The system text never leaves, nor the newest message, nor a question without its answer. It counts
whole prompts by a function that it is given, and knows no engine and no conversation.

The policy: nothing leaves while the prompt and the room for an answer fit. When they do not, so
many leave at once that the turns that stay take at most half of what the system text, the new
message and the answer leave over; it is then long until the next ones must. The first turns that
can be spared are the oldest.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from functools import lru_cache

from fwlocal.errors import PromptTooLong

SHIFT, DROP, STOP = "shift", "drop", "stop"
ON_FULL = (SHIFT, DROP, STOP)  # turns leave, by a shift of the KV cache or anew; the chat stops

_USUAL_ROOM = 1024
_LEAST_ROOM = 64


def answer_room(limit: int, max_tokens: int | None) -> int:
    """Tokens of a context of ``limit`` that are kept free for an answer: ``max_tokens``, or 1024
    where there are none, and a quarter of the context at most."""
    wanted = _USUAL_ROOM if max_tokens is None else max_tokens
    return min(wanted, limit // 4)


def fit(
    count: Callable[[int], int],
    *,
    n_left: int,
    n_may_leave: int,
    limit: int,
    room: int,
    on_full: str = SHIFT,
) -> int:
    """How many of the oldest questions are to be out of the context with their answers.

    ``count`` gives the tokens of the prompt without so many of them; it is called once where the
    prompt fits, else as often as halving takes. ``n_left`` are out already, and ``n_may_leave`` may
    be. ``limit`` and ``room`` are tokens: what the context holds, and what is wanted for an answer.

    Raises PromptTooLong when not even the newest message fits, and where ``on_full`` is "stop" when
    anything would have to leave.
    """
    counted = lru_cache(maxsize=None)(count)
    n_left = min(n_left, n_may_leave)
    least = min(room, _LEAST_ROOM, limit // 8)
    if counted(n_left) + (least if on_full == STOP else room) <= limit:
        return n_left
    alone = counted(n_may_leave)
    if alone + least > limit:
        raise PromptTooLong(
            f"the message has {alone} tokens, with the system text and the prompt format, and the "
            f"context holds {limit}; shorten it, or take an --n-ctx or a model that holds more"
        )
    if on_full == STOP:
        raise PromptTooLong(
            f"the context is full: the prompt has {counted(n_left)} tokens and it holds {limit}; "
            "/reset starts anew, /set on-full shift lets the oldest turns leave"
        )
    target = alone + max(0, limit - room - alone) // 2
    choices = range(n_left, n_may_leave + 1)
    return choices[bisect.bisect_left(choices, -target, key=lambda n: -counted(n))]
