"""Collecting an importance matrix: chunk by chunk into one file, which a later run goes on with.

The file is written whole every few chunks, and says which model, text and settings it is of. Who
evaluates a chunk is for the caller. The sums so far are float32, as the file has them, so that a
run that was stopped and one that was not write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.imatrix.entries import Summed, Sums, with_chunk
from convert.imatrix.reading import OWN_KEYS, read_sums
from convert.imatrix.writing import write_sums
from fwlocal.errors import BadCheckpoint, BadModelFile, UsageError

SAVE_EVERY = 10  # chunks

# From a chunk and the sums so far to those of each tensor with it; None where it was stopped.
Evaluate = Callable[[Sequence[int], Mapping[str, Summed]], Mapping[str, Summed] | None]


@dataclass(frozen=True)
class Origin:
    """What a matrix is of; two that differ in it do not go on with each other. ``first_chunk``
    counts the chunks of the text that were left out before it."""

    model_sha256: str
    text_sha256: str
    first_chunk: int = 0
    process_output: bool = False

    @property
    def keys(self) -> dict[str, str | int]:
        """As the file has it."""
        return {
            f"{OWN_KEYS}model.sha256": self.model_sha256,
            f"{OWN_KEYS}text.sha256": self.text_sha256,
            f"{OWN_KEYS}first_chunk": self.first_chunk,
            f"{OWN_KEYS}process_output": int(self.process_output),
        }


_WORDS = {
    f"{OWN_KEYS}model.sha256": "another model",
    f"{OWN_KEYS}text.sha256": "another text",
    f"{OWN_KEYS}first_chunk": "another --from-chunk",
    f"{OWN_KEYS}process_output": "another --process-output",
}


@dataclass(frozen=True)
class Order:
    """What is to be collected, from all of ``chunks`` (token ids, ``chunk_size`` of them each), and
    into which file."""

    out: Path
    chunks: Sequence[Sequence[int]]
    chunk_size: int
    dataset: str
    origin: Origin


@dataclass(frozen=True)
class Collection:
    """What is in the file now; ``n_before`` chunks were there already."""

    sums: Sums
    n_before: int
    n_wanted: int

    @property
    def is_whole(self) -> bool:
        """Whether every chunk that was asked for is in it."""
        return self.sums.n_chunks >= self.n_wanted


def begun(order: Order, *, overwrite: bool = False) -> Collection:
    """What an earlier run left of the same work, or nothing yet.

    Raises UsageError for a file of other work, BadCheckpoint for one that is no importance matrix;
    with ``overwrite`` such a file counts for nothing.
    """
    empty = Sums({}, (order.dataset,), 0, order.chunk_size, order.origin.keys)
    found = empty if overwrite or not order.out.exists() else _earlier(order)
    return Collection(found, found.n_chunks, len(order.chunks))


def collect(
    order: Order,
    start: Collection,
    evaluate: Evaluate,
    on_chunk: Callable[[int, int], None] = lambda done, total: None,
) -> Collection:
    """Go on from ``start`` to the last chunk, or to where ``evaluate`` was stopped; every whole
    chunk is in the file then. ``on_chunk`` gets how many are done, and of how many.

    Raises what ``evaluate`` does, and then the file is as it was last saved; StoreError, DoesNotFit
    where it cannot be written.
    """
    sums = saved = start.sums
    total = len(order.chunks)
    for chunk in order.chunks[sums.n_chunks :]:
        found = evaluate(chunk, sums.entries)
        if found is None:
            break
        if not found:
            raise UsageError(f"chunks of {order.chunk_size} tokens are too short; take --n-ctx 512")
        sums = with_chunk(sums, found)
        on_chunk(sums.n_chunks, total)
        if sums.n_chunks % SAVE_EVERY == 0:
            write_sums(order.out, sums)
            saved = sums
    if sums is not saved:
        write_sums(order.out, sums)
    return Collection(sums, start.n_before, total)


def _earlier(order: Order) -> Sums:
    out = order.out
    try:
        found = read_sums(out)
    except (BadCheckpoint, BadModelFile) as error:
        problem = str(error).rpartition("; ")[0] or str(error)
        raise BadCheckpoint(f"{problem}; take another --out, or --overwrite it") from error
    known = {key: value for key, value in found.keys.items() if key in _WORDS}
    if not known:
        raise UsageError(
            f"{out}: an importance matrix that cannot be gone on with (it does not say of what it "
            "is); take another --out, or --overwrite it"
        )
    wanted = order.origin.keys
    different = [words for key, words in _WORDS.items() if known.get(key) != wanted[key]]
    if found.chunk_size != order.chunk_size:
        different.append(f"--n-ctx {found.chunk_size}")
    if different:
        raise UsageError(
            f"{out}: is of {' and '.join(different)}; take another --out, or --overwrite it"
        )
    if found.n_chunks > len(order.chunks):
        raise UsageError(
            f"{out}: holds {found.n_chunks} chunks, and no more than {len(order.chunks)} are "
            "asked for; take another --out, or --overwrite it"
        )
    return found
