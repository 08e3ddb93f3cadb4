"""A ``llama_context``: made, evaluated on, stopped and freed. Whose KV caches it holds, one
sequence's or several's, is for those who build on it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.llama.bindings import Asked, lib, log
from fwlocal.llama.model import Model

KV_TYPES: Mapping[str, int] = {"f16": 1, "q8_0": 8, "q4_0": 2}  # ggml_type ids
FLASH_ATTENTION: Mapping[str, int] = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type
_ABORTED = 2  # llama_decode: the abort callback said stop
_NO_MEMORY = -2  # ... a buffer, or room for the outputs, could not be allocated


@dataclass(frozen=True)
class ContextOptions:
    """The context's size and how it computes; ``flash_attn`` and KV types by name.
    ``n_threads_batch`` compute what has several rows, as prefill does; None is ``n_threads``."""

    n_ctx: int
    n_threads: int
    n_batch: int = 512
    n_ubatch: int = 512
    flash_attn: str = "auto"
    kv_type: str = "f16"
    n_threads_batch: int | None = None


class NativeContext:
    """A context for ``n_lanes`` sequences of ``options.n_ctx`` tokens each.

    ``should_stop`` is asked during long evaluations (CPU only); it must be quick and not raise.
    ``refused`` is the error to raise where llama.cpp makes none. ``cb_eval``, a ctypes callback
    that the caller keeps, is shown every node of the graph.
    """

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
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = options.n_ctx * n_lanes, n_lanes
        params.kv_unified = False
        params.n_batch = max(n_lanes, min(options.n_batch, options.n_ctx))
        params.n_ubatch = max(n_lanes, min(options.n_ubatch, params.n_batch))
        params.n_threads = options.n_threads
        params.n_threads_batch = options.n_threads_batch or options.n_threads
        params.flash_attn_type = FLASH_ATTENTION[options.flash_attn]
        params.type_k = params.type_v = KV_TYPES[options.kv_type]
        params.no_perf = True
        if cb_eval is not None:
            params.cb_eval = cb_eval
        log.clear()
        handle = lib.llama_init_from_model(model.handle, params)
        if not handle:
            raise refused()
        self.buffers = tuple(log.buffers)
        self.n_batch: int = params.n_batch
        self._model = model  # it must not be freed before the context
        self._open = weakref.finalize(self, lib.llama_free, handle)
        self._pointer = handle
        self._memory = lib.llama_get_memory(handle)
        self._asked = Asked(should_stop)
        asked = self._asked
        self._stop = lib.ggml_abort_callback(lambda _: asked(failed=True))
        self._never = lib.ggml_abort_callback()
        self._is_stoppable = False

    def close(self) -> None:
        """Free it."""
        self._open()

    @property
    def handle(self) -> Any:
        """The ``llama_context *``; RuntimeError once closed."""
        if not self._open.alive:
            raise RuntimeError("the context is closed")
        return self._pointer

    def _evaluate(self, batch: Any, *, stoppable: bool) -> bool:
        """Decode a ``llama_batch``; False when it was stopped. Raises DoesNotFit, FwlocalError.

        Asking Python on every graph node costs a token 5 % of its time, a batch nothing.
        """
        if stoppable != self._is_stoppable:
            callback = self._stop if stoppable else self._never
            lib.llama_set_abort_callback(self.handle, callback, None)
            self._is_stoppable = stoppable
        status = lib.llama_decode(self.handle, batch)
        self._asked.raise_failure()
        if status not in (0, _ABORTED):
            raise _failed(status)
        return bool(status == 0)


def _failed(status: int) -> FwlocalError:
    """What to say of a ``status`` of llama_decode."""
    if status == _NO_MEMORY:
        return DoesNotFit(
            f"no memory was left to evaluate with ({log.last_error()}); take a smaller --n-ctx, or "
            "close what else runs"
        )
    return FwlocalError(f"llama.cpp could not evaluate ({status}): {log.last_error()}")
