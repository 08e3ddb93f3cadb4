"""One pass over a source: read -> regroup -> widen -> quantize -> write, for all levels at once.

The main thread reads ahead and writes; the others quantize. A tensor is quantized once for each
type that any level wants of it. Memory is bounded by a few slices, whatever the tensors' sizes. The
source is told what will be read and what is done, since it may have to come over a network.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convert.llama import permuted_rows
from convert.model import Model, ModelTensor
from convert.plan import PlannedTensor
from convert.quantize import F32s, build_tables, quantize_rows, widen
from convert.scales import first_not_finite
from convert.sources.source_file import Bytes
from convert.sources.tensors import FLOATS, row_bytes
from convert.writer import OutputFile
from fwlocal.errors import BadCheckpoint

SLICE_ELEMENTS = 4 << 20  # 16 MB in float32
CHUNK_ELEMENTS = 256 << 10  # one task of a thread: fits in its cache
SLICES_AHEAD = 3
MAX_QUANTIZED = 1e12  # no block's float16 scale reaches so far; ggml's IQ kernels abort at 1e15

Importance = Mapping[str, npt.NDArray[np.float32]]
Outputs = tuple[tuple[OutputFile, PlannedTensor], ...]


@dataclass(frozen=True)
class Options:
    """How to run the pass. ``allow_nan`` keeps what is not finite in F32, F16 and BF16, and makes
    it 0 where it is quantized."""

    n_threads: int
    allow_nan: bool = False
    importance: Importance | None = None


@dataclass(frozen=True)
class Progress:
    """How far the pass is: ``tensor`` was the last one written to, bytes are the source's."""

    tensor: str
    n_done: int
    n_tensors: int
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class _Slice:
    """Rows of one tensor on their way: ``blocks``, one buffer for each type, fill as the tasks
    finish."""

    tensor: ModelTensor
    outputs: Outputs
    first_row: int
    n_rows: int
    blocks: Mapping[str, Bytes]
    tasks: tuple[Future[None], ...]

    @property
    def is_last(self) -> bool:
        """Whether the tensor ends with it."""
        return self.first_row + self.n_rows == _n_rows(self.tensor)


def run(
    model: Model,
    files: Sequence[OutputFile],
    options: Options,
    on_progress: Callable[[Progress], None],
) -> None:
    """Write every tensor that the files still lack.

    Raises BadCheckpoint naming a tensor that is damaged or not finite; OSError for a full disk.
    """
    lacking = _lacking(files)
    work = [(t, lacking[t.name]) for t in _in_source_order(model) if t.name in lacking]
    for type_name in {planned.type_name for _, outputs in work for _, planned in outputs}:
        build_tables(type_name)
    total = sum(_size_bytes(tensor) for tensor in model.tensors)
    done = total - sum(_size_bytes(tensor) for tensor, _ in work)
    n_done = len(model.tensors) - len(work)
    stored = (tensor.source_name for tensor, _ in work if tensor.values is None)
    model.source.expect(list(dict.fromkeys(stored)))
    with _pool(options.n_threads) as pool:
        for part in _slices(model, work, options, pool):
            _write(part)
            if part.is_last and part.tensor.values is None:
                model.source.done(part.tensor.source_name)
            n_done += part.is_last
            done += part.n_rows * row_bytes(part.tensor.dtype, part.tensor.shape[-1])
            on_progress(Progress(part.tensor.name, n_done, len(model.tensors), done, total))


@contextlib.contextmanager
def _pool(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are given nothing more once something has failed."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="quantize")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_source_order(model: Model) -> list[ModelTensor]:
    """Tensors as their bytes lie in the source, so that it is read from front to back."""
    files = {file.path: index for index, file in enumerate(model.source.files)}

    def place(tensor: ModelTensor) -> tuple[int, int]:
        if tensor.values is not None:
            return (-1, 0)
        source = model.source.tensors[tensor.source_name]
        return (files[source.file], source.offset)

    return sorted(model.tensors, key=place)


def _lacking(files: Sequence[OutputFile]) -> dict[str, Outputs]:
    """For each tensor, by name, the files that still lack it."""
    lacking: dict[str, Outputs] = {}
    for file in files:
        for planned in file.plan.tensors:
            name = planned.tensor.name
            if name not in file.done:
                lacking[name] = (*lacking.get(name, ()), (file, planned))
    return lacking


def _n_rows(tensor: ModelTensor) -> int:
    return math.prod(tensor.shape[:-1])


def _size_bytes(tensor: ModelTensor) -> int:
    return _n_rows(tensor) * row_bytes(tensor.dtype, tensor.shape[-1])


def _slices(
    model: Model,
    work: Sequence[tuple[ModelTensor, Outputs]],
    options: Options,
    pool: ThreadPoolExecutor,
) -> Iterator[_Slice]:
    """Every slice of the work, in order, read and given to the threads while SLICES_AHEAD more are
    on their way; fewer where the source has no room for what is read and not yet written."""
    waiting: deque[_Slice] = deque()
    for tensor, outputs, first, count in _cut(work):
        while waiting and not _has_room(model, tensor, first + count):
            yield waiting.popleft()
        waiting.append(_start(model, tensor, outputs, (first, count), options, pool))
        if len(waiting) > SLICES_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _has_room(model: Model, tensor: ModelTensor, end_row: int) -> bool:
    return tensor.values is not None or model.source.has_room(tensor.source_name, end_row)


def _cut(
    work: Sequence[tuple[ModelTensor, Outputs]],
) -> Iterator[tuple[ModelTensor, Outputs, int, int]]:
    """The tensors in slices: first row and number of rows."""
    for tensor, outputs in work:
        step = max(1, SLICE_ELEMENTS // tensor.shape[-1])
        n_rows = _n_rows(tensor)
        if tensor.n_head and len(tensor.shape) > 1:  # whole heads, since rows move within them
            head = n_rows // tensor.n_head
            step = max(1, step // head) * head
        for first in range(0, n_rows, step):
            yield tensor, outputs, first, min(step, n_rows - first)


def _start(
    model: Model,
    tensor: ModelTensor,
    outputs: Outputs,
    rows: tuple[int, int],
    options: Options,
    pool: ThreadPoolExecutor,
) -> _Slice:
    first, count = rows
    n_per_row = tensor.shape[-1]
    data = _read(model, tensor, first, count)
    types = dict.fromkeys(planned.type_name for _, planned in outputs)
    blocks = {name: np.empty(count * row_bytes(name, n_per_row), np.uint8) for name in types}
    step = max(1, CHUNK_ELEMENTS // n_per_row)
    tasks = []
    for row in range(0, count, step):
        end = min(row + step, count)

        def part(buffer: Bytes, type_name: str, row: int = row, end: int = end) -> Bytes:
            size = row_bytes(type_name, n_per_row)
            return buffer[row * size : end * size]

        chunk = part(data, tensor.dtype)
        targets = {name: part(buffer, name) for name, buffer in blocks.items()}
        tasks.append(pool.submit(_convert, model, tensor, chunk, targets, options))
    return _Slice(tensor, outputs, first, count, blocks, tuple(tasks))


def _read(model: Model, tensor: ModelTensor, first: int, count: int) -> Bytes:
    """Rows as GGUF wants them, in the source's dtype."""
    if tensor.values is not None:
        return np.frombuffer(tensor.values, np.uint8)
    data = model.source.read_rows(tensor.source_name, first, count)
    if not tensor.n_head:
        return data
    if len(tensor.shape) == 1:  # a bias: its elements are the rows
        n_rows, n_head = tensor.shape[0], tensor.n_head
    else:
        n_rows, n_head = count, count * tensor.n_head // _n_rows(tensor)
    return data.reshape(n_rows, -1)[permuted_rows(n_rows, n_head)].reshape(-1)


def _convert(
    model: Model, tensor: ModelTensor, data: Bytes, targets: Mapping[str, Bytes], options: Options
) -> None:
    """One task: a few rows to every type wanted."""
    n_per_row = tensor.shape[-1]
    values = widen(data, tensor.dtype, data.size // row_bytes(tensor.dtype, n_per_row) * n_per_row)
    finite = math.isfinite(_largest(values))
    if not finite and not options.allow_nan:
        raise _refusal(model, tensor, "holds NaN or Inf; fetch it again, or use --allow-nan")
    cleaned = values if finite else np.where(np.isfinite(values), values, np.float32(0))
    is_huge = _largest(cleaned) > MAX_QUANTIZED
    importance = None if options.importance is None else options.importance.get(tensor.name)
    for type_name, target in targets.items():
        if type_name == tensor.dtype:
            target[:] = data
        elif type_name in FLOATS:
            quantize_rows(values, n_per_row, type_name, target)
        elif not is_huge:
            quantize_rows(cleaned, n_per_row, type_name, target, importance)
        overflows = finite and first_not_finite(type_name, target) is not None
        if overflows or (is_huge and type_name not in (tensor.dtype, *FLOATS)):
            raise _refusal(model, tensor, f"holds values too large for {type_name}; use F32")


def _largest(values: F32s) -> float:
    """The largest magnitude; NaN where one of the values is."""
    return max(float(values.max()), -float(values.min()))


def _refusal(model: Model, tensor: ModelTensor, what: str) -> BadCheckpoint:
    source = model.source.tensors[tensor.source_name]
    return BadCheckpoint(f"{source.file}: {source.name} {what}")


def _write(part: _Slice) -> None:
    for task in part.tasks:
        task.result()
    for file, planned in part.outputs:
        size = row_bytes(planned.type_name, part.tensor.shape[-1])
        file.write(planned, part.first_row * size, part.blocks[planned.type_name])
