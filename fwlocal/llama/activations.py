"""How strongly a text drives each column of each weight matrix: sums of squared activations.

While the model evaluates tokens, llama.cpp's scheduler shows each matrix product to a callback,
which squares what goes into it and adds that, row after row, to the sums so far: in float32 and in
llama-imatrix's order, as rounding comes to 1e-4 over some twenty thousand rows otherwise. That is
what importance matrices are made of; this module knows neither their files nor the text.

Source: ``IMatrixCollector::collect_imatrix`` in ``tools/imatrix/imatrix.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from fwlocal.errors import BadModelFile, DoesNotFit, FwlocalError
from fwlocal.llama.batch_context import BatchContext
from fwlocal.llama.bindings import Asked, lib, log
from fwlocal.llama.model import Model
from fwlocal.llama.native_context import ContextOptions
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
_COLUMNS = 1024  # squared at once
LEAST_ROWS = 16  # tokens at once; llama.cpp leaves smaller products out
MOST_TOKENS = 512  # in one batch: each has logits, of the size of the vocabulary


class SumsSoFar(Protocol):
    """What callers hand in again; see ColumnSums."""

    @property
    def sums(self) -> Floats: ...
    @property
    def counts(self) -> Counts: ...


@dataclass(frozen=True)
class ColumnSums:
    """``sums`` of the squares that met each column of a weight matrix, float32, and how many rows
    those were: one of ``counts``, or one for each expert, whose sums then follow each other."""

    sums: Floats
    counts: Counts


class Activations(BatchContext):
    """A context that evaluates chunks of at most ``options.n_ctx`` tokens and sums them up.

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

    def add(
        self, tokens: Sequence[int], so_far: Mapping[str, SumsSoFar]
    ) -> Mapping[str, ColumnSums] | None:
        """The sums ``so_far``, by the tensor's name, with one chunk more, which is evaluated from
        an empty cache; None when it was stopped. ``so_far`` stays as it is. Raises BadModelFile
        where a sum becomes NaN or Inf."""
        lib.llama_memory_clear(self._memory, True)
        self._collector.begin(so_far)
        for start in range(0, len(tokens), self.n_batch):
            batch = tokens[start : start + self.n_batch]
            for index, token in enumerate(batch):
                # The last layer is computed only for tokens whose logits are wanted.
                self._put(index, token, start + index, wants_logits=True)
            is_done = self._run(len(batch), stoppable=True)
            self._shown.raise_failure()
            if not is_done or self._should_stop():
                return None
        return self._collector.found


@dataclass
class _Last:
    """What went into the last product and what it was added to; the names of those it went into."""

    address: int
    n_mats: tuple[int, int]
    before: Floats
    after: Floats
    names: set[str]


class _Collector:
    """What the callback does: it picks the products, and adds up what goes into them."""

    def __init__(self, should_stop: Callable[[], bool], *, process_output: bool) -> None:
        self.found: dict[str, ColumnSums] = {}
        self._so_far: Mapping[str, SumsSoFar] = {}
        self._should_stop, self._process_output = should_stop, process_output
        self._product, self._experts_product = op_ids("MUL_MAT", "MUL_MAT_ID")
        self._last: _Last | None = None

    def begin(self, so_far: Mapping[str, SumsSoFar]) -> None:
        """Another chunk comes."""
        self.found, self._so_far, self._last = {}, so_far, None

    def on_node(self, pointer: int, ask: bool) -> bool:
        """Whether a node's data are wanted (``ask``); then, with the data, whether to go on."""
        import numpy as np

        node = Node.from_address(pointer)
        if ask:
            return self._wants(node)
        weight = source(node, 0)
        name = weight_name(weight)
        with np.errstate(over="ignore", invalid="ignore"):
            is_experts = node.op == self._experts_product
            add = self._add_experts if is_experts else self._add_dense
            sums = add(node, weight, name)
        if not np.isfinite(sums.sums).all():
            raise BadModelFile(
                f"{name}: what goes into it is NaN or Inf for this text; the model is damaged "
                "(`fwlocal verify` tells), or computes outside its numbers' range here"
            )
        self.found[name] = sums
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

    def _before(self, name: str, n_sums: int, n_counts: int) -> tuple[Floats, Counts]:
        """What there is of a tensor. Raises FwlocalError where that is of another shape."""
        import numpy as np

        known = self.found.get(name) or self._so_far.get(name)
        if known is None:
            return np.zeros(n_sums, np.float32), np.zeros(n_counts, np.int64)
        if (len(known.sums), len(known.counts)) != (n_sums, n_counts):
            raise FwlocalError(
                f"{name}: has {len(known.sums)} sums so far, and {n_sums} in this model; begin anew"
            )
        return known.sums, known.counts

    def _add_dense(self, node: Node, weight: Node, name: str) -> ColumnSums:
        """Q, K and V are given the same, and so are gate and up: it is summed once. A name that
        comes again is of the next part of the batch, which may lie where the last one lay."""
        import numpy as np

        given, address, n_mats = source(node, 1), node.src[1], (weight.ne[3], weight.ne[2])
        before, counts = self._before(name, given.ne[0] * n_mats[0] * n_mats[1], 1)
        last = self._last
        is_same = (
            last is not None
            and (last.address, last.n_mats) == (address, n_mats)
            and name not in last.names
            and np.array_equal(last.before, before)
        )
        if last is None or not is_same:
            last = _Last(address, n_mats, before, _summed(values(given), n_mats, before), set())
        last.names.add(name)
        self._last = last
        n_rows = given.ne[1] * given.ne[2] * given.ne[3] // (n_mats[0] * n_mats[1])
        return ColumnSums(last.after, counts + n_rows)

    def _add_experts(self, node: Node, weight: Node, name: str) -> ColumnSums:
        """To each expert's sums the rows that were routed to it.

        ids: [n_used, n_tokens], activations: [n_columns, n_used or 1, n_tokens].
        """
        import numpy as np

        given, ids = values(source(node, 1))[0], numbers(source(node, 2))[0, 0]
        n_experts, n_tokens = weight.ne[2], len(ids)
        before, counts = self._before(name, given.shape[-1] * n_experts, n_experts)
        sums = before.reshape(n_experts, -1).copy()
        routed = ids.T.ravel()
        slots, tokens = np.divmod(np.argsort(routed, kind="stable"), n_tokens)
        rows_of = np.bincount(routed, minlength=n_experts)
        ends = np.cumsum(rows_of)
        for expert in np.flatnonzero(rows_of):
            picked = slice(ends[expert] - rows_of[expert], ends[expert])
            rows = given[tokens[picked], slots[picked] % given.shape[1]]
            sums[expert] = added_squares(sums[expert], rows)
        return ColumnSums(sums.reshape(-1), counts + rows_of)


def _summed(given: Floats, n_mats: tuple[int, int], before: Floats) -> Floats:
    """Sums for each matrix of a weight that has several (``n_mats``, outermost first); those that
    are fewer than the activations' are met by several of these."""
    sums = before.reshape(*n_mats, -1).copy()
    for outer in range(given.shape[0]):
        for inner in range(given.shape[1]):
            place = outer % n_mats[0], inner % n_mats[1]
            sums[place] = added_squares(sums[place], given[outer, inner])
    return sums.reshape(-1)


def added_squares(before: Floats, rows: Floats) -> Floats:
    """``before`` and the squares of each column, one row after the other, each time rounded to
    float32. Memory: of a block of columns."""
    import numpy as np

    after = np.empty_like(before)
    for start in range(0, len(before), _COLUMNS):
        block = slice(start, start + _COLUMNS)
        part = rows[:, block]
        squares = np.empty((len(part) + 1, part.shape[1]), np.float32)
        squares[0] = before[block]
        np.multiply(part, part, out=squares[1:])
        after[block] = np.add.reduce(squares, axis=0)
    return after


def _refused(options: ContextOptions) -> FwlocalError:
    if (refusal := log.refusal()) is not None:
        return DoesNotFit(
            f"not enough memory for chunks of {options.n_ctx} tokens ({refusal}); take a smaller "
            "--n-ctx, or fewer --n-gpu-layers"
        )
    return FwlocalError(f"llama.cpp cannot create the context: {log.last_error()}")
