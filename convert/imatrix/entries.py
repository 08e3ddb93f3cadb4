"""Importance matrices as data: sums and counts, added to each other, and divided into weights.

For each tensor, the squares of what met each of its columns are summed, and it is counted how many
rows they were of. Pure: what a file looks like, and where sums come from, is for others.

Source: ``IMatrixCollector::load_imatrix`` in ``tools/imatrix/imatrix.cpp``, and ``load_imatrix`` in
``tools/quantize/quantize.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fwlocal.errors import BadCheckpoint, BadModelFile

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]

REMEDY = "make it with `fwlocal imatrix -m MODEL --text FILE`"
CHUNK_SIZE = 512  # tokens; llama-imatrix's default
# llama-quantize ignores the matrix of this tensor when it does not fit: it is looked up by token
# and multiplied with activations only where it is the output too.
MAY_NOT_FIT = ("token_embd.weight",)
MAX_SUM = 1e36  # ggml's IQ kernels overflow near float32's limit, and end the process


@dataclass(frozen=True)
class ImportanceMatrix:
    """The weights of the columns of each tensor, by the tensor's GGUF name.

    ``weights`` are float32 of n_per_row each (times the experts, for a tensor that has them),
    finite and not negative, read-only. ``n_chunks`` of the ``datasets`` (the names of the texts)
    were seen to compute them; 0 and () when the file does not tell.
    """

    path: Path
    datasets: tuple[str, ...]
    n_chunks: int
    weights: Mapping[str, Floats]


class Summed(Protocol):
    """What is known of one tensor; see Entry."""

    @property
    def sums(self) -> Floats: ...
    @property
    def counts(self) -> Counts: ...


@dataclass(frozen=True)
class Entry:
    """``sums`` of squares for each column, flat float32, and the rows that were counted: one of
    ``counts``, or one for each expert, whose columns follow each other."""

    sums: Floats
    counts: Counts


@dataclass(frozen=True)
class Sums:
    """All that a file of importance holds: entries by tensor, the names of the texts, how many
    chunks of how many tokens; ``keys`` are our own, of the run that collected it.

    ``is_mean`` for the older format: its counts are calls and its sums those calls' means; their
    ``chunk_size`` is not known, 0.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    n_chunks: int = 0
    chunk_size: int = 0
    keys: Mapping[str, str | int] = field(default_factory=dict)
    is_mean: bool = False


def weights_of(entry: Entry, *, is_mean: bool = False) -> Floats:
    """Sums by counts, divided once, in float32. An expert that no text reached (count 0) weighs all
    its columns alike; in the older format the sums are then taken as they are."""
    counts = entry.counts.astype(np.float32)[:, np.newaxis]
    rows = entry.sums.reshape(len(counts), -1)
    if not is_mean:
        rows = np.where(counts > 0, rows, np.float32(1))
    weights: Floats = np.divide(rows, np.maximum(counts, np.float32(1)), dtype=np.float32).ravel()
    weights.setflags(write=False)
    return weights


def weights_for(matrix: ImportanceMatrix, name: str, n_per_row: int) -> Floats | None:
    """The weights of the tensor called ``name``, None when the matrix has none for it.

    Raises BadCheckpoint when there are not ``n_per_row`` of them: the matrix is of another model.
    """
    weights = matrix.weights.get(name)
    if weights is None or len(weights) == n_per_row:
        return weights
    if name in MAY_NOT_FIT:
        return None
    raise BadCheckpoint(
        f"{matrix.path}: {name} has {len(weights)} weights, its rows here have {n_per_row}: "
        f"the importance matrix of another model; {REMEDY} for this one"
    )


def added(known: Summed | None, more: Summed) -> Entry:
    """Both together, in float32 as llama.cpp adds. One count beside several experts' is each one's.
    Raises ValueError where their sizes differ, or a sum grows beyond what kernels take."""
    if known is None:
        return Entry(more.sums, more.counts)
    if len(known.sums) != len(more.sums):
        raise ValueError(f"{len(known.sums)} sums there, {len(more.sums)} here")
    if len(known.counts) != len(more.counts) and 1 not in (len(known.counts), len(more.counts)):
        raise ValueError(f"{len(known.counts)} experts there, {len(more.counts)} here")
    with np.errstate(over="ignore"):
        sums = known.sums + more.sums
    if not (sums <= MAX_SUM).all():
        raise ValueError(f"a sum grows to {sums.max():g}")
    return Entry(sums, known.counts + more.counts)


def with_chunk(sums: Sums, found: Mapping[str, Summed]) -> Sums:
    """One chunk more, after which these are the sums. Raises BadModelFile, naming the tensor, where
    one is beyond what kernels take."""
    entries = dict(sums.entries)
    for name, entry in found.items():
        if not (entry.sums <= MAX_SUM).all():
            raise BadModelFile(
                f"{name}: what goes into it sums up to {entry.sums.max():g}; the model is damaged "
                "(`fwlocal verify` tells), or computes outside its numbers' range here"
            )
        entries[name] = Entry(entry.sums, entry.counts)
    return replace(sums, entries=entries, n_chunks=sums.n_chunks + 1)


def merge(parts: Sequence[tuple[Path, Sums]], chunk_size: int | None = None) -> Sums:
    """Matrices of one model, read from these files, added to one; texts are listed in their order.

    ``chunk_size``, in tokens, says how many rows a call of the older format stands for, and is
    what chunks are counted in; without it that which the files agree on, or 512. Raises
    BadCheckpoint, naming the tensor, where one does not fit those before it.
    """
    size = chunk_size or _agreed(sums.chunk_size for _, sums in parts)
    entries: dict[str, Entry] = {}
    for path, sums in parts:
        factor = size if sums.is_mean else 1
        for name, entry in sums.entries.items():
            scaled = Entry(entry.sums * np.float32(factor), entry.counts * factor)
            try:
                entries[name] = added(entries.get(name), scaled)
            except ValueError as error:
                raise BadCheckpoint(
                    f"{path}: {name} does not fit the others' ({error}): the importance matrix of "
                    "another model, or one that was added already; leave it out"
                ) from error
    most = max((int(entry.counts.max()) for entry in entries.values()), default=0)
    datasets = tuple(name for path, sums in parts for name in sums.datasets or (path.name,))
    return Sums(entries, datasets, most // size, size)


def _agreed(sizes: Iterable[int]) -> int:
    known = {size for size in sizes if size > 0}
    return known.pop() if len(known) == 1 else CHUNK_SIZE


def unreached(sums: Sums) -> tuple[int, int]:
    """How many experts' matrices no text reached, of how many there are."""
    experts = [entry.counts for entry in sums.entries.values() if len(entry.counts) > 1]
    return sum(int((counts == 0).sum()) for counts in experts), sum(map(len, experts))
