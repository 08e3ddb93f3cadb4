"""Finding out at once what trials would find in the first answers: which numbers of rows are exact.

It takes the time of some 150 tokens, which is right for what is measured once and kept, and wrong
before an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fwlocal.draft.drafter import MOST_DRAFTED
from fwlocal.draft.widths import CPU_WIDTHS, ENOUGH_ROWS, SHORT, KnownWidths, Widths
from fwlocal.kv_cache import KVCache

_STARTS = (32, SHORT + 8)  # tokens of a short context, and of a long one
_RUN = ENOUGH_ROWS + max(CPU_WIDTHS)
N_TOKENS = max(_STARTS) + _RUN  # that the text must have, and the context must hold
_FIRST = 4  # rows: where the most kernels change their way


def explore(
    cache: KVCache, tokens: Sequence[int], should_stop: Callable[[], bool] = lambda: False
) -> KnownWidths:
    """What is exact in this context on this machine; ``tokens`` are N_TOKENS or more of any text.
    The cache is empty afterwards. What was found is all there is, or less where it was stopped.
    Raises PromptTooLong for a context that is shorter."""
    cache.make_room(N_TOKENS, 0)
    most = min(cache.context.n_batch, MOST_DRAFTED + 1)
    widths = Widths(lossless=True, can_truncate=cache.context.can_truncate)
    for start in _STARTS:
        cache.clear()
        if not cache.evaluate(tokens[:start]):
            break
        run = tokens[start : start + _RUN]
        alone = [_single(cache, token) for token in run]
        while (to_try := widths.to_try(start, most)) and not should_stop():
            _compare(cache, start, run, alone, widths, _FIRST if _FIRST in to_try else to_try[0])
    cache.clear()
    return widths.known


def _compare(
    cache: KVCache,
    start: int,
    run: Sequence[int],
    alone: Sequence[bytes],
    widths: Widths,
    width: int,
) -> None:
    """Evaluate the run once more, ``width`` tokens at a time, as far as need be."""
    context = cache.context
    context.truncate(start)
    del cache.tokens[start:]
    for place in range(0, len(run) - width + 1, width):
        rows = run[place : place + width]
        context.decode_rows(rows)
        cache.tokens += rows
        found = [context.logits_bytes(index - width) for index in range(width)]
        is_same = found == list(alone[place : place + width])
        widths.note(start, width, width, is_same=is_same)
        if not is_same or width not in widths.to_try(start, width):
            return


def _single(cache: KVCache, token: int) -> bytes:
    cache.evaluate_one(token)
    return cache.context.logits_bytes()
