"""When a state is worth its bytes: the seconds of evaluation it saves against those of reading it.

Pure arithmetic; which disk it is, is not asked: a slow one is noticed while it is read
(``PrefixCache.load`` gives up in time).
"""

from __future__ import annotations

LEAST_TOKENS = 256  # fewer are evaluated in a moment
LEAST_SAVED_S = 0.2
LOAD_BYTES_PER_S = 500e6  # read, hashed and copied into the context; a slow SSD with an old CPU
_MARGIN = 2.0  # what is kept may also never be asked for again


def worth_keeping(n_tokens: int, state_bytes: int, prefill_s: float) -> bool:
    """Whether a state of ``n_tokens`` that took ``prefill_s`` seconds to evaluate should be
    kept in ``state_bytes``."""
    return (
        n_tokens >= LEAST_TOKENS
        and prefill_s >= LEAST_SAVED_S
        and prefill_s >= _MARGIN * state_bytes / LOAD_BYTES_PER_S
    )


def worth_loading(saved_s: float, state_bytes: int) -> bool:
    """Whether to read a state that saves ``saved_s`` seconds of evaluation. It is read as a whole,
    however few of its tokens are of use."""
    return saved_s > state_bytes / LOAD_BYTES_PER_S
