"""Several KV caches side by side, decoded together in one batch.

Each sequence has a lane of its own, which its tokens fill in the order they come: what is computed
for one does not depend on where the others lie. Lanes that follow each other are computed at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.llama.batch_context import BatchContext
from fwlocal.llama.bindings import lib, log
from fwlocal.llama.model import Model
from fwlocal.llama.native_context import ContextOptions

MOST_LANES = 256  # LLAMA_MAX_SEQ


@dataclass(frozen=True)
class NextToken:
    """A token to evaluate, at its position in the sequence of a lane."""

    lane: int
    token: int
    position: int


class Sequences(BatchContext):
    """``n_lanes`` KV caches of ``options.n_ctx`` tokens each, and the computation on them.

    ``should_stop`` is asked during long evaluations (CPU only); it must be quick and not raise.
    ``can_truncate`` is False for models that keep a state instead of tokens. Raises DoesNotFit
    where there is no memory for them.
    """

    def __init__(
        self,
        model: Model,
        options: ContextOptions,
        n_lanes: int,
        should_stop: Callable[[], bool],
    ) -> None:
        super().__init__(
            model, options, should_stop, lambda: _refused(options, n_lanes), n_lanes=n_lanes
        )
        self.n_lanes = n_lanes
        self.n_ctx = options.n_ctx
        self.can_truncate = not model.keeps_state
        self.n_batch = min(options.n_batch, options.n_ctx)  # of one lane

    def prefill(self, lane: int, tokens: Sequence[int], start: int) -> bool:
        """Evaluate at most n_batch tokens of a lane from the position ``start`` on; False when it
        was stopped. The last one's logits are row 0."""
        last = len(tokens) - 1
        for index, token in enumerate(tokens):
            self._put(index, token, start + index, lane=lane, wants_logits=index == last)
        return self._run(len(tokens), stoppable=True)

    def step(self, tokens: Sequence[NextToken]) -> None:
        """Evaluate one token of each of several lanes; row N has the logits of the Nth."""
        for index, token in enumerate(tokens):
            self._put(index, token.token, token.position, lane=token.lane, wants_logits=True)
        self._run(len(tokens), stoppable=False)

    def logits(self, row: int, n_rows: int) -> bytes:
        """The logits of one of the ``n_rows`` that were computed last, as their bytes."""
        found = lib.llama_get_logits_ith(self.handle, row - n_rows)
        return ctypes.string_at(found, 4 * self._model.n_vocab)

    def truncate(self, lane: int, n_tokens: int) -> bool:
        """Keep the first ``n_tokens`` of a lane; False if it cannot, and then the lane is empty."""
        if lib.llama_memory_seq_rm(self._memory, lane, n_tokens, -1):
            return True
        lib.llama_memory_seq_rm(self._memory, lane, -1, -1)
        return False

    def copy(self, source: int, target: int) -> None:
        """Make one lane what another one is."""
        self.truncate(target, 0)
        lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def state(self, lane: int) -> Any:
        """A lane as bytes, for lanes of another size."""
        size = lib.llama_state_seq_get_size(self.handle, lane)
        data = (ctypes.c_uint8 * size)()
        lib.llama_state_seq_get_data(self.handle, data, size, lane)
        return data

    def restore(self, lane: int, state: Any) -> bool:
        """Take over a lane's ``state``; False if it cannot."""
        return bool(lib.llama_state_seq_set_data(self.handle, state, len(state), lane))


def _refused(options: ContextOptions, n_lanes: int) -> FwlocalError:
    what = f"{n_lanes} contexts of {options.n_ctx} tokens"
    if (refusal := log.refusal()) is not None:
        return DoesNotFit(
            f"not enough memory for {what} ({refusal}); take a smaller --parallel, --n-ctx or "
            "--max-tokens"
        )
    return FwlocalError(f"llama.cpp cannot create {what}: {log.last_error()}")
