"""How much of a prompt another one has evaluated already. Pure.

Kernels take another way for few rows than for many: attention from 64 rows on, products of matrices
from 2, 4 and 8. What is reused must have been computed the way that it would be now, and so must
the rest: then each row is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

TILE = 64  # rows from which llama.cpp computes attention in tiles (GGML_FA_TILE_Q)
EDGE = 8  # what is reused ends at a multiple of it, so that blocks of rows begin where they would
_FEW = 8


def is_tiled(n_rows: int) -> bool:
    """Whether a batch of that many tokens is computed in tiles."""
    return n_rows >= TILE


def reusable(cached: Sequence[int], prompt: Sequence[int], n_batch: int) -> int:
    """How many tokens of ``prompt`` need no evaluation beside ``cached``, another prompt's."""
    n_same = _common(cached, prompt)
    begun = n_same - n_same % n_batch  # where the batch begins that the common beginning ends in
    end = min(begun + n_batch, len(prompt))
    other_end = min(begun + n_batch, len(cached))
    if is_tiled(end - begun) != is_tiled(other_end - begun):
        return begun
    n_left = TILE if is_tiled(end - begun) else _FEW
    kept = min(n_same, end - n_left)
    return max(begun, kept - kept % EDGE)


def batches(start: int, n_tokens: int, n_batch: int) -> Iterator[tuple[int, int]]:
    """The (start, end) of what is evaluated at once: the batches of a prompt that is evaluated
    from its beginning, less what lies before ``start``."""
    while start < n_tokens:
        end = min(start - start % n_batch + n_batch, n_tokens)
        yield start, end
        start = end


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with, less the last of ``right``, whose logits are needed."""
    pairs = zip(left, right[:-1], strict=False)
    same = min(len(left), len(right) - 1)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), max(same, 0))
