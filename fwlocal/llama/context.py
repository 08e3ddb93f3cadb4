"""A KV cache and the computation on it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from typing import Any

from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.llama.bindings import lib, log
from fwlocal.llama.model import Model
from fwlocal.llama.native_context import ContextOptions, NativeContext


class Context(NativeContext):
    """A KV cache of one sequence and the computation on it.

    ``should_stop`` is asked during long evaluations (CPU only); it must be quick and not raise.
    """

    def __init__(
        self, model: Model, options: ContextOptions, should_stop: Callable[[], bool]
    ) -> None:
        super().__init__(model, options, should_stop, lambda: _context_error(options))
        self.n_ctx: int = lib.llama_n_ctx(self.handle)
        self._moves_keys = _moves_keys(self.handle, model, options)
        self._is_moved = False  # positions were, and the keys follow in the next evaluation
        self._token = (ctypes.c_int32 * 1)()
        self._one = lib.llama_batch_get_one(self._token, 1)

    def decode(self, tokens: Sequence[int]) -> bool:
        """Evaluate at most n_batch tokens behind what is cached; False when it was stopped."""
        if self._is_moved:
            self.decode_one(tokens[0])
            tokens = tokens[1:]
        if not tokens:
            return True
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        return self._evaluate(lib.llama_batch_get_one(ids, len(tokens)), stoppable=True)

    def decode_one(self, token: int) -> None:
        """Evaluate one token; it is not stopped on the way."""
        self._token[0] = token
        if self._is_moved:
            log.clear()
        self._evaluate(self._one, stoppable=False)
        if self._is_moved:
            self._check_moved()

    def decode_rows(self, tokens: Sequence[int]) -> None:
        """Evaluate a few tokens at once, at most n_batch, with logits for each: of the Nth of K in
        row N - K. It is not stopped on the way; keys must not be waiting to be moved."""
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        wanted = (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))
        batch = lib.llama_batch_get_one(ids, len(tokens))
        batch.logits = wanted
        self._evaluate(batch, stoppable=False)

    def cached(self) -> int:
        """How many positions the cache holds."""
        return int(lib.llama_memory_seq_pos_max(self._memory, 0)) + 1

    def truncate(self, n_tokens: int) -> bool:
        """Keep the first ``n_tokens`` positions; False if this kind of model cannot, or if a
        sliding window would miss some of them, and then nothing is kept."""
        if not n_tokens:
            self._forget_moves()
        if self._shows(n_tokens) and lib.llama_memory_seq_rm(self._memory, 0, n_tokens, -1):
            return True
        self._clear()
        return False

    def _shows(self, n_tokens: int) -> bool:
        """Whether all is there that position ``n_tokens`` sees: llama.cpp leaves out of a state
        what the window hides at its end, and cuts back behind that without a word."""
        first = n_tokens - self._model.n_swa + 1
        if not self._model.n_swa or not n_tokens:
            return True
        return bool(lib.llama_memory_seq_pos_min(self._memory, 0) <= max(0, first))

    @property
    def can_truncate(self) -> bool:
        """Whether ``truncate`` keeps anything: it does not in models that keep a state."""
        return not self._model.keeps_state

    @property
    def can_move(self) -> bool:
        """Whether ``remove`` may be called: it depends on the kind of model and of cache, and all
        positions must be there, which those of a sliding window are not in a state that was taken
        over."""
        return self._moves_keys and lib.llama_memory_seq_pos_min(self._memory, 0) == 0

    def remove(self, start: int, end: int) -> None:
        """Take out the positions from ``start`` to ``end``; those behind follow up, as in
        llama.cpp's context shift: keys are rotated to where they are then, and what was computed
        of what is gone stays in them. ``can_move`` must be true."""
        lib.llama_memory_seq_rm(self._memory, 0, start, end)
        lib.llama_memory_seq_add(self._memory, 0, end, -1, start - end)
        self._is_moved = True

    def _check_moved(self) -> None:
        """llama.cpp moves keys before the first evaluation that follows, goes on when it could not,
        and would leave them half moved if it was stopped meanwhile."""
        self._is_moved = False
        if any("K-shift" in line for line in log.errors):
            reason = log.last_error()
            self._clear()
            raise FwlocalError(
                f"llama.cpp could not move what the KV cache holds ({reason}); ask again, and it "
                "is evaluated anew"
            )

    def _forget_moves(self) -> None:
        """Where nothing is to stay, no keys are to be moved before the next evaluation."""
        if self._is_moved:
            lib.llama_memory_clear(self._memory, False)
            self._is_moved = False

    def _clear(self) -> None:
        lib.llama_memory_clear(self._memory, True)
        self._is_moved = False

    def logits(self, row: int = -1) -> Any:
        """Of the last token evaluated, or of another ``row`` counted from the end, before any
        sampling: float32, one for each token of the vocabulary; a copy."""
        import numpy as np

        logits = lib.llama_get_logits_ith(self.handle, row)
        return np.ctypeslib.as_array(logits, (self._model.n_vocab,)).copy()

    def logits_bytes(self, row: int = -1) -> bytes:
        """The same as they lie in memory, to be compared to the bit."""
        return ctypes.string_at(lib.llama_get_logits_ith(self.handle, row), 4 * self._model.n_vocab)

    def state_bytes(self) -> int:
        """How large ``state`` would be."""
        return int(lib.llama_state_seq_get_size(self.handle, 0))

    def state(self) -> Any:
        """The cache as bytes, for a context of another size; None while keys are to be moved. Of a
        sliding window it has what the window still shows, and no more."""
        if self._is_moved:
            return None
        size = self.state_bytes()
        data = (ctypes.c_uint8 * size)()
        lib.llama_state_seq_get_data(self.handle, data, size, 0)
        return data

    def restore(self, state: Any) -> bool:
        """Take over another context's ``state``; False, and empty, if it cannot."""
        self._forget_moves()
        if lib.llama_state_seq_set_data(self.handle, state, len(state), 0):
            return True
        self._clear()
        return False

    def synchronize(self) -> None:
        """Wait until the device has finished what was decoded."""
        lib.llama_synchronize(self.handle)


def _moves_keys(handle: Any, model: Model, options: ContextOptions) -> bool:
    """Whether llama.cpp can move the keys of this context without ending the process.

    Recurrent states cannot forget a gap. Quantized keys are moved by way of a rotation that only
    heads of some sizes have, and only if all of a head is rotated: llama.cpp does not check that,
    but says in its log which there are.
    """
    is_recurrent = lib.llama_model_is_recurrent(model.handle)
    if is_recurrent or lib.llama_model_is_hybrid(model.handle):
        return False
    if not lib.llama_memory_can_shift(lib.llama_get_memory(handle)):
        return False
    if options.kv_type == "f16":
        return True
    found = re.findall(r"attn_rot_k = (\d), n_embd_head_k_all = (-?\d+)", "".join(log.rotations))
    keys = "{arch}.rope.dimension_count", "{arch}.rope.dimension_count_swa"
    rotated = {model.metadata(key) for key in keys} - {None}
    return bool(found) and all(one == "1" and rotated <= {size} for one, size in found)


def _context_error(options: ContextOptions) -> FwlocalError:
    if (refusal := log.refusal()) is not None:
        return DoesNotFit(
            f"not enough memory for a context of {options.n_ctx} tokens ({refusal}); take a "
            "smaller --n-ctx or --kv-type q8_0"
        )
    return FwlocalError(
        f"llama.cpp cannot create the context: {log.last_error()}; try --kv-type f16 and "
        "--flash-attn auto"
    )
