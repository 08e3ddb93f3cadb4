"""How large a context is when nobody names a size."""

from __future__ import annotations

DEFAULT_N_CTX = 4096
MIN_N_CTX = 256  # llama.cpp rounds contexts up to multiples of it


def default_n_ctx(n_ctx_train: int, n_needed: int = 0) -> int:
    """The context when none is asked for: 4096 tokens, more where the prompt and its answer need
    it, never more than the model was trained on; rounded up as llama.cpp does."""
    wanted = rounded_n_ctx(max(DEFAULT_N_CTX, n_needed))
    return min(wanted, n_ctx_train) if n_ctx_train > 0 else wanted


def rounded_n_ctx(n_ctx: int) -> int:
    """What llama.cpp makes of a context's size (``GGML_PAD(n_ctx, 256)``)."""
    return -(-n_ctx // MIN_N_CTX) * MIN_N_CTX
