"""Collecting chunk by chunk into a file, and going on with it; what evaluates is made up here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from convert.imatrix import Collection, Entry, Order, Origin, begun, collect, read_sums, write_sums
from convert.imatrix.collecting import SAVE_EVERY
from convert.imatrix.entries import Summed, Sums, added
from fwlocal.errors import BadCheckpoint, BadModelFile, FwlocalError, UsageError
from tests.convert.test_imatrix import floats

NAME = "blk.0.ffn_up.weight"
ORIGIN = Origin("a" * 64, "b" * 64)
CHUNKS = [(number, number + 1) for number in range(25)]


@dataclass
class Evaluated:
    """A model that adds thirds of tokens; at chunk ``stops_at`` it was stopped, at ``fails_at`` it
    fails."""

    stops_at: int | None = None
    fails_at: int | None = None
    seen: list[Sequence[int]] = field(default_factory=list)

    def __call__(
        self, chunk: Sequence[int], so_far: Mapping[str, Summed]
    ) -> Mapping[str, Entry] | None:
        if chunk[0] == self.fails_at:
            raise BadModelFile(f"{NAME}: NaN")
        if chunk[0] == self.stops_at:
            return None
        self.seen.append(chunk)
        more = Entry(floats(chunk[0] / 3, chunk[1] / 3), np.array([2], np.int64))
        return {NAME: added(so_far.get(NAME), more)}


def an_order(out: Path, n_chunks: int = 25, origin: Origin = ORIGIN) -> Order:
    return Order(out, CHUNKS[:n_chunks], 2, "text", origin)


def run(order: Order, evaluate: Evaluated | None = None, *, overwrite: bool = False) -> Collection:
    return collect(order, begun(order, overwrite=overwrite), evaluate or Evaluated())


def refused(order: Order) -> str:
    with pytest.raises(FwlocalError) as caught:
        begun(order)
    assert "--overwrite" in str(caught.value)
    return str(caught.value)


def test_all_chunks_come_to_one_file(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf")
    shown: list[tuple[int, int]] = []

    found = collect(
        order, begun(order), Evaluated(), lambda done, total: shown.append((done, total))
    )

    assert found.is_whole
    assert shown == [(number, 25) for number in range(1, 26)]
    written = read_sums(order.out)
    assert (written.n_chunks, written.chunk_size, written.datasets) == (25, 2, ("text",))
    assert written.entries[NAME].counts.tolist() == [50]
    np.testing.assert_allclose(written.entries[NAME].sums, [100, 325 / 3], rtol=1e-6)


def test_a_stopped_run_keeps_every_whole_chunk_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf")
    stopped = run(order, Evaluated(stops_at=13))
    assert not stopped.is_whole
    assert read_sums(order.out).n_chunks == 13

    rest = Evaluated()
    found = run(order, rest)

    assert (found.n_before, found.is_whole) == (13, True)
    assert rest.seen == CHUNKS[13:]
    run(an_order(tmp_path / "at-once.gguf"))
    assert order.out.read_bytes() == (tmp_path / "at-once.gguf").read_bytes()


def test_a_run_that_was_killed_goes_on_from_the_last_saved_chunk(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf")
    with pytest.raises(BadModelFile):
        run(order, Evaluated(fails_at=19))
    assert read_sums(order.out).n_chunks == SAVE_EVERY

    rest = Evaluated()
    run(order, rest)

    assert rest.seen == CHUNKS[SAVE_EVERY:]
    run(an_order(tmp_path / "at-once.gguf"))
    assert order.out.read_bytes() == (tmp_path / "at-once.gguf").read_bytes()


def test_a_failure_leaves_a_good_file_alone(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf", 5)
    run(order)
    before = order.out.read_bytes()
    with pytest.raises(BadModelFile):
        run(an_order(order.out), Evaluated(fails_at=7))
    assert order.out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_a_run_stopped_in_its_first_chunk_writes_nothing(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf")
    assert run(order, Evaluated(stops_at=0)).sums.n_chunks == 0
    assert not order.out.exists()


def test_a_whole_file_is_gone_on_with_for_more_chunks(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf", 3)
    run(order)
    assert begun(order).is_whole
    more = Evaluated()
    run(an_order(order.out, 4), more)
    assert more.seen == CHUNKS[3:4]
    assert "holds 4 chunks, and no more than 3 are asked for" in refused(order)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_sha256": "c" * 64}, "is of another model;"),
        ({"text_sha256": "c" * 64}, "is of another text;"),
        ({"first_chunk": 1}, "is of another --from-chunk;"),
        ({"process_output": True}, "is of another --process-output;"),
        ({"model_sha256": "c", "text_sha256": "c"}, "is of another model and another text;"),
    ],
)
def test_a_file_of_other_work_is_refused(
    change: dict[str, str | int], message: str, tmp_path: Path
) -> None:
    order = an_order(tmp_path / "m.gguf", 2)
    run(order)
    other = replace(order, origin=replace(ORIGIN, **change))  # type: ignore[arg-type]

    assert message in refused(other)

    found = run(other, overwrite=True)
    assert (found.n_before, found.sums.n_chunks) == (0, 2)
    assert read_sums(order.out).keys == other.origin.keys


def test_a_file_of_other_chunk_sizes_is_refused(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf", 2)
    run(order)
    assert "is of --n-ctx 2;" in refused(replace(order, chunk_size=3))


def test_a_matrix_that_says_nothing_of_its_origin_is_refused(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf")
    entries = {NAME: Entry(floats(1, 2), np.array([2], np.int64))}
    write_sums(order.out, Sums(entries, ("text",), 1, 2))
    assert "cannot be gone on with" in refused(order)


def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf")
    run(order)
    order.out.write_bytes(order.out.read_bytes()[:-40])
    assert "\n" not in refused(order)
    order.out.write_bytes(b"a text that somebody wrote")
    with pytest.raises(BadCheckpoint, match=r"is no importance matrix; take another --out"):
        begun(order)


def test_chunks_that_give_nothing_are_too_short(tmp_path: Path) -> None:
    order = an_order(tmp_path / "m.gguf")
    with pytest.raises(UsageError, match="chunks of 2 tokens are too short"):
        collect(order, begun(order), lambda chunk, so_far: {})
