"""A text read at once: the logits of every position of a stretch of it.

What a benchmark needs of a model; what the logits mean is for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.llama.batch_context import BatchContext
from fwlocal.llama.bindings import lib, log
from fwlocal.llama.model import Model
from fwlocal.llama.native_context import ContextOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# llama.cpp has them twice, where they are computed and where they are read.
MOST_LOGITS_BYTES = 96 << 20


class Evaluation(BatchContext):
    """Evaluates stretches of at most ``options.n_ctx`` tokens, each from an empty cache.

    ``should_stop`` is asked during evaluations (CPU only); it must be quick and not raise.
    ``most_logits_bytes`` bounds what a batch gives at once. ``n_threads`` is what it computes with.
    Raises DoesNotFit where there is no memory for it.
    """

    def __init__(
        self,
        model: Model,
        options: ContextOptions,
        should_stop: Callable[[], bool],
        *,
        most_logits_bytes: int = MOST_LOGITS_BYTES,
    ) -> None:
        super().__init__(model, options, should_stop, lambda: _refused(options))
        self.n_vocab = model.n_vocab
        self.n_threads = options.n_threads
        self._most_rows = max(1, most_logits_bytes // (4 * model.n_vocab))

    def batches(self, tokens: Sequence[int], first: int) -> Iterator[npt.NDArray[np.float32]]:
        """The logits of the positions from ``first`` to the last, (positions, n_vocab), a batch at
        a time, as it is computed: each is llama.cpp's own memory, valid until the next is asked
        for. Fewer come when it was stopped."""
        import numpy as np

        lib.llama_memory_clear(self._memory, True)
        for start, end in batch_bounds(len(tokens), first, self.n_batch, self._most_rows):
            for position in range(start, end):
                wants_logits = position >= first
                self._put(position - start, tokens[position], position, wants_logits=wants_logits)
            if not self._run(end - start, stoppable=True):
                return
            n_rows = end - max(start, first)
            if n_rows > 0:
                found = lib.llama_get_logits(self.handle)
                yield np.ctypeslib.as_array(found, (n_rows, self.n_vocab))


def batch_bounds(
    n_tokens: int, first: int, n_batch: int, most_rows: int
) -> Iterator[tuple[int, int]]:
    """Where batches of at most ``n_batch`` tokens begin and end, of which at most ``most_rows`` are
    at ``first`` or behind it."""
    start = 0
    while start < n_tokens:
        end = min(start + n_batch, max(start, first) + most_rows, n_tokens)
        yield start, end
        start = end


def _refused(options: ContextOptions) -> FwlocalError:
    what = f"evaluating {options.n_ctx} tokens"
    if (refusal := log.refusal()) is not None:
        return DoesNotFit(f"not enough memory for {what} ({refusal}); take a smaller --n-ctx")
    return FwlocalError(f"llama.cpp cannot create a context for {what}: {log.last_error()}")
