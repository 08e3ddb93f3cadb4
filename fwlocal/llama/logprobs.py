"""From logits to the logarithms of probabilities."""

from __future__ import annotations

from typing import Any


def logprobs(logits: Any, token: int, n_top: int) -> tuple[float, list[tuple[int, float]]]:
    """The natural logarithm of the probability of ``token``, and the ``n_top`` likeliest tokens
    with theirs, best first: a softmax over the whole vocabulary, before any sampling."""
    import numpy as np

    wide = np.asarray(logits, np.float64)
    peak = wide.max()
    logs = wide - (peak + np.log(np.exp(wide - peak).sum()))
    n_top = min(n_top, len(logs))
    likeliest = np.argpartition(-logs, n_top - 1)[:n_top]
    top = [(int(other), float(logs[other])) for other in likeliest]
    return float(logs[token]), sorted(top, key=lambda pair: (-pair[1], pair[0]))
