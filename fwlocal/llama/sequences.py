"""Several KV caches side by side, decoded together in one batch.

Each sequence has a lane of its own, which its tokens fill in the order they come: what is computed
for one does not depend on where the others lie. Lanes that follow each other are computed at once.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.llama.bindings import Asked, lib, log
from fwlocal.llama.context import ABORTED, FLASH_ATTENTION, KV_TYPES, ContextOptions
from fwlocal.llama.model import Model

MOST_LANES = 256  # LLAMA_MAX_SEQ


@dataclass(frozen=True)
class NextToken:
    """A token to evaluate, at its position in the sequence of a lane."""

    lane: int
    token: int
    position: int


class Sequences:
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
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = options.n_ctx * n_lanes, n_lanes
        params.kv_unified = False
        params.n_batch = max(n_lanes, min(options.n_batch, options.n_ctx))
        params.n_ubatch = max(n_lanes, min(options.n_ubatch, params.n_batch))
        params.n_threads = params.n_threads_batch = options.n_threads
        params.flash_attn_type = FLASH_ATTENTION[options.flash_attn]
        params.type_k = params.type_v = KV_TYPES[options.kv_type]
        params.no_perf = True
        log.clear()
        handle = lib.llama_init_from_model(model.handle, params)
        if not handle:
            raise _refused(options, n_lanes)
        self.buffers = tuple(log.buffers)
        self._model = model  # it must not be freed before the context
        self._open = weakref.finalize(self, lib.llama_free, handle)
        self._pointer = handle
        self._memory = lib.llama_get_memory(handle)
        self._asked = Asked(should_stop)
        asked = self._asked
        self._stop = lib.ggml_abort_callback(lambda _: asked(failed=True))
        self._never = lib.ggml_abort_callback()
        self._stoppable = False
        self.n_lanes = n_lanes
        self.n_ctx = options.n_ctx
        forgets = lib.llama_model_is_recurrent(model.handle) or lib.llama_model_is_hybrid(
            model.handle
        )
        self.can_truncate = not forgets
        self.n_batch = min(options.n_batch, options.n_ctx)
        batch = lib.llama_batch_init(params.n_batch, 0, 1)
        self._batch_open = weakref.finalize(self, lib.llama_batch_free, batch)
        self._batch = batch

    def close(self) -> None:
        """Free the caches."""
        self._batch_open()
        self._open()

    @property
    def handle(self) -> Any:
        """The ``llama_context *``; RuntimeError once closed."""
        if not self._open.alive:
            raise RuntimeError("the sequences are closed")
        return self._pointer

    def prefill(self, lane: int, tokens: Sequence[int], start: int) -> bool:
        """Evaluate at most n_batch tokens of a lane from the position ``start`` on; False when it
        was stopped. The last one's logits are row 0."""
        last = len(tokens) - 1
        for index, token in enumerate(tokens):
            self._put(index, NextToken(lane, token, start + index), wants_logits=index == last)
        return self._run(len(tokens), stoppable=True)

    def step(self, tokens: Sequence[NextToken]) -> None:
        """Evaluate one token of each of several lanes; row N has the logits of the Nth."""
        for index, token in enumerate(tokens):
            self._put(index, token, wants_logits=True)
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

    def _put(self, index: int, token: NextToken, *, wants_logits: bool) -> None:
        batch = self._batch
        batch.token[index], batch.pos[index] = token.token, token.position
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, token.lane
        batch.logits[index] = wants_logits

    def _run(self, n_tokens: int, *, stoppable: bool) -> bool:
        if stoppable != self._stoppable:
            callback = self._stop if stoppable else self._never
            lib.llama_set_abort_callback(self.handle, callback, None)
            self._stoppable = stoppable
        self._batch.n_tokens = n_tokens
        status = lib.llama_decode(self.handle, self._batch)
        self._asked.raise_failure()
        if status not in (0, ABORTED):
            raise FwlocalError(f"llama.cpp could not evaluate ({status}): {log.last_error()}")
        return bool(status == 0)


def _refused(options: ContextOptions, n_lanes: int) -> FwlocalError:
    what = f"{n_lanes} contexts of {options.n_ctx} tokens"
    if (refusal := log.refusal()) is not None:
        return DoesNotFit(
            f"not enough memory for {what} ({refusal}); take a smaller --parallel, --n-ctx or "
            "--max-tokens"
        )
    return FwlocalError(f"llama.cpp cannot create {what}: {log.last_error()}")
