"""How strongly a text drives each column of each weight matrix: sums of squared activations.

While the model evaluates tokens, llama.cpp's scheduler shows each matrix product to a callback,
which squares and sums what goes into it. That is what importance matrices are made of; this module
knows neither their files nor the text.

Source: ``IMatrixCollector::collect_imatrix`` in ``tools/imatrix/imatrix.cpp``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fwlocal.errors import BadModelFile, DoesNotFit, FwlocalError
from fwlocal.llama.bindings import Asked, lib, log
from fwlocal.llama.model import Model
from fwlocal.llama.native_context import ContextOptions, NativeContext
from fwlocal.llama.nodes import (
    F32,
    Node,
    check_layout,
    numbers,
    op_ids,
    source,
    values,
    weight_name,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Counts = npt.NDArray[np.int64]

OUTPUT = "output.weight"
LEAST_ROWS = 16  # tokens at once; llama.cpp leaves smaller products out
MOST_TOKENS = 512  # in one batch: each has logits, of the size of the vocabulary


@dataclass(frozen=True)
class ColumnSums:
    """``sums`` of the squares that met each column of a weight matrix, float32, and how many rows
    those were: one of ``counts``, or one for each expert, whose sums then follow each other."""

    sums: Floats
    counts: Counts


class Activations(NativeContext):
    """A context that evaluates chunks of at most ``options.n_ctx`` tokens and tells their sums.

    ``process_output`` takes the output's matrix in, too. ``should_stop`` is asked throughout; it
    must be quick and not raise. Raises DoesNotFit, and FwlocalError for another llama.cpp.
    """

    def __init__(
        self,
        model: Model,
        options: ContextOptions,
        should_stop: Callable[[], bool],
        *,
        process_output: bool = False,
    ) -> None:
        check_layout()
        self._collector = _Collector(should_stop, process_output=process_output)
        self._shown = Asked(self._collector.on_node)
        shown = self._shown
        # A failure answers "yes, show me" and then "stop": nothing more is computed than one node.
        self._on_node = lib.ggml_backend_sched_eval_callback(
            lambda pointer, ask, _: shown(pointer, ask, failed=ask)
        )
        options = replace(options, n_batch=min(MOST_TOKENS, options.n_ctx))
        super().__init__(
            model, options, should_stop, lambda: _refused(options), cb_eval=self._on_node
        )
        self._should_stop = should_stop
        batch = lib.llama_batch_init(self.n_batch, 0, 1)
        self._batch_open = weakref.finalize(self, lib.llama_batch_free, batch)
        self._batch = batch

    def close(self) -> None:
        """Free it."""
        self._batch_open()
        super().close()

    def sums(self, tokens: Sequence[int]) -> Mapping[str, ColumnSums] | None:
        """The sums of one chunk, evaluated from an empty cache, by the tensor's name; None when it
        was stopped. Raises BadModelFile where an activation is NaN or Inf."""
        lib.llama_memory_clear(self._memory, True)
        self._collector.begin()
        for start in range(0, len(tokens), self.n_batch):
            is_done = self._run(tokens[start : start + self.n_batch], start)
            self._shown.raise_failure()
            if not is_done or self._should_stop():
                return None
        return self._collector.found

    def _run(self, tokens: Sequence[int], start: int) -> bool:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, start + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = True  # the last layer is computed for these tokens alone
        return self._evaluate(batch, stoppable=True)


class _Collector:
    """What the callback does: it picks the products, and adds up what goes into them."""

    def __init__(self, should_stop: Callable[[], bool], *, process_output: bool) -> None:
        self.found: dict[str, ColumnSums] = {}
        self._should_stop, self._process_output = should_stop, process_output
        self._product, self._experts_product = op_ids("MUL_MAT", "MUL_MAT_ID")
        self._last: tuple[Any, Floats, set[str]] = (None, _nothing(), set())

    def begin(self) -> None:
        """Forget the sums so far."""
        self.found = {}
        self._last = (None, _nothing(), set())

    def on_node(self, pointer: int, ask: bool) -> bool:
        """Whether a node's data are wanted (``ask``); then, with the data, whether to go on."""
        node = Node.from_address(pointer)
        if ask:
            return self._wants(node)
        weight, product = source(node, 0), node.op
        name = weight_name(weight)
        sums = (
            _experts_sums(node, weight)
            if product == self._experts_product
            else self._dense_sums(source(node, 1), node.src[1], weight, name)
        )
        self._add(name, sums)
        return not self._should_stop()

    def _wants(self, node: Node) -> bool:
        if node.op not in (self._product, self._experts_product):
            return False
        given = source(node, 1)
        if given.type != F32:
            return False
        if node.op == self._experts_product:
            return True
        name = weight_name(source(node, 0))
        is_asked = name.startswith("blk.") or (self._process_output and name == OUTPUT)
        return is_asked and given.ne[1] >= LEAST_ROWS

    def _dense_sums(self, given: Node, address: int, weight: Node, name: str) -> ColumnSums:
        """Q, K and V are given the same, and so are gate and up: it is summed once. A name that
        comes again is of the next part of the batch, which may lie where the last one lay."""
        import numpy as np

        n_mats = (weight.ne[3], weight.ne[2])
        key = (address, n_mats)
        last, sums, names = self._last
        if last != key or name in names:
            sums, names = _summed(values(given), n_mats), set()
        self._last = (key, sums, names | {name})
        n_rows = given.ne[1] * given.ne[2] * given.ne[3] // (n_mats[0] * n_mats[1])
        return ColumnSums(sums, np.array([n_rows], np.int64))

    def _add(self, name: str, more: ColumnSums) -> None:
        import numpy as np

        if not np.isfinite(more.sums).all():
            raise BadModelFile(
                f"{name}: what goes into it is NaN or Inf for this text; the model is damaged "
                "(`fwlocal verify` tells), or computes outside its numbers' range here"
            )
        known = self.found.get(name)
        if known is not None:
            more = ColumnSums(known.sums + more.sums, known.counts + more.counts)
        self.found[name] = more


def _nothing() -> Floats:
    import numpy as np

    return np.zeros(0, np.float32)


def _summed(given: Floats, n_mats: tuple[int, int]) -> Floats:
    """Sums for each matrix of a weight that has several (``n_mats``, outermost first); those that
    are fewer than the activations' are met by several of these."""
    import numpy as np

    sums = np.zeros((*n_mats, given.shape[-1]), np.float32)
    for outer in range(given.shape[0]):
        for inner in range(given.shape[1]):
            sums[outer % n_mats[0], inner % n_mats[1]] += _squares(given[outer, inner])
    return sums.reshape(-1)


def _squares(rows: Floats) -> Floats:
    """The sum of each column's squares, without a copy of the rows."""
    import numpy as np

    sums: Floats = np.einsum("ij,ij->j", rows, rows)
    return sums


def _experts_sums(node: Node, weight: Node) -> ColumnSums:
    """Sums for each expert of the rows that were routed to it.

    ids: [n_used, n_tokens], activations: [n_columns, n_used or 1, n_tokens].
    """
    import numpy as np

    given, ids = values(source(node, 1))[0], numbers(source(node, 2))[0, 0]
    n_experts = weight.ne[2]
    sums = np.zeros((n_experts, given.shape[-1]), np.float32)
    counts = np.zeros(n_experts, np.int64)
    tokens, slots = np.divmod(np.argsort(ids, axis=None, kind="stable"), ids.shape[1])
    ends = np.searchsorted(ids[tokens, slots], np.arange(n_experts), side="right")
    start = 0
    for expert, end in enumerate(ends.tolist()):
        if end > start:
            picked = slice(start, end)
            rows = given[tokens[picked], slots[picked] % given.shape[1]]
            sums[expert], counts[expert] = _squares(rows), end - start
        start = end
    return ColumnSums(sums.reshape(-1), counts)


def _refused(options: ContextOptions) -> FwlocalError:
    if (refusal := log.refusal()) is not None:
        return DoesNotFit(
            f"not enough memory for chunks of {options.n_ctx} tokens ({refusal}); take a smaller "
            "--n-ctx, or fewer --n-gpu-layers"
        )
    return FwlocalError(f"llama.cpp cannot create the context: {log.last_error()}")
