"""A context with a ``llama_batch`` of its own, which is filled a token at a time: for those who say
of each token where it goes, and whether its logits are wanted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from fwlocal.errors import FwlocalError
from fwlocal.llama.bindings import lib
from fwlocal.llama.model import Model
from fwlocal.llama.native_context import ContextOptions, NativeContext


class BatchContext(NativeContext):
    """NativeContext's arguments; the batch holds ``n_batch`` tokens."""

    def __init__(
        self,
        model: Model,
        options: ContextOptions,
        should_stop: Callable[[], bool],
        refused: Callable[[], FwlocalError],
        *,
        n_lanes: int = 1,
        cb_eval: Any = None,
    ) -> None:
        super().__init__(model, options, should_stop, refused, n_lanes=n_lanes, cb_eval=cb_eval)
        self._batch = lib.llama_batch_init(self.n_batch, 0, 1)
        self._batch_open = weakref.finalize(self, lib.llama_batch_free, self._batch)

    def close(self) -> None:
        """Free both."""
        self._batch_open()
        super().close()

    def _put(
        self, index: int, token: int, position: int, *, lane: int = 0, wants_logits: bool
    ) -> None:
        batch = self._batch
        batch.token[index], batch.pos[index] = token, position
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, lane
        batch.logits[index] = wants_logits

    def _run(self, n_tokens: int, *, stoppable: bool) -> bool:
        """Evaluate what was put into the first ``n_tokens`` places; False when it was stopped."""
        self._batch.n_tokens = n_tokens
        return self._evaluate(self._batch, stoppable=stoppable)
