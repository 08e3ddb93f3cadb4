"""Sums and counts: added, merged, and written as llama-imatrix writes them."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.imatrix import Entry, Sums, merge, read_imatrix, read_sums, unreached, write_sums
from convert.imatrix.entries import added, with_chunk
from fwlocal.errors import BadCheckpoint, BadModelFile, StoreError
from tests.convert.test_imatrix import dat, floats, record

UP, DOWN = "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"
A, B = Path("a.gguf"), Path("b.gguf")


def entry(*sums: float, counts: tuple[int, ...] = (512,)) -> Entry:
    return Entry(floats(*sums), np.array(counts, np.int64))


def sums(dataset: str = "text", n_chunks: int = 1, **entries: Entry) -> Sums:
    """Of the tensors ``up`` and ``down``."""
    names = {"up": UP, "down": DOWN}
    named = {names[short]: entry for short, entry in entries.items()}
    return Sums(named, (dataset,), n_chunks, 512)


def numbers(found: Entry) -> tuple[list[float], list[int]]:
    return found.sums.tolist(), found.counts.tolist()


def test_a_chunk_brings_new_sums() -> None:
    none = Sums(datasets=("text",), chunk_size=512)
    one = with_chunk(none, {UP: entry(1, 2), DOWN: entry(3)})
    two = with_chunk(one, {UP: entry(11, 22, counts=(1024,))})

    assert (none.n_chunks, one.n_chunks, two.n_chunks) == (0, 1, 2)
    assert numbers(two.entries[UP]) == ([11, 22], [1024])
    assert numbers(two.entries[DOWN]) == ([3], [512])
    assert numbers(one.entries[UP]) == ([1, 2], [512])


@pytest.mark.parametrize("value", [2e36, float("inf"), float("nan")])
def test_sums_that_kernels_cannot_take_are_refused(value: float) -> None:
    with pytest.raises(BadModelFile, match=f"^{UP}: what goes into it sums up to"):
        with_chunk(Sums(), {UP: entry(1, value)})


def test_matrices_are_merged_in_any_number() -> None:
    first = sums("wiki", up=entry(1, 2), down=entry(5))
    second = sums("code", up=entry(10, 20, counts=(1024,)))
    third = sums("maths", down=entry(7))

    merged = merge([(A, first), (B, second), (A, third)])

    assert merged.datasets == ("wiki", "code", "maths")
    assert numbers(merged.entries[UP]) == ([11, 22], [1536])
    assert numbers(merged.entries[DOWN]) == ([12], [1024])
    assert (merged.n_chunks, merged.chunk_size) == (3, 512)


def test_experts_counts_are_added_one_by_one() -> None:
    experts = sums(up=entry(1, 2, 3, 4, counts=(3, 0)))
    merged = merge([(A, experts), (B, experts), (A, sums(up=entry(1, 1, 1, 1, counts=(5,))))])
    assert numbers(merged.entries[UP]) == ([3, 5, 7, 9], [11, 5])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (entry(1, 2, 3), "2 sums there, 3 here"),
        (entry(3e36, 0), "a sum grows to 3e[+]36"),
    ],
)
def test_another_models_matrix_is_refused_by_the_tensors_name(other: Entry, message: str) -> None:
    with pytest.raises(BadCheckpoint, match=rf"^b\.gguf: {UP} does not fit .*{message}"):
        merge([(A, sums(up=entry(1, 2))), (B, sums(up=other))])


def test_other_numbers_of_experts_are_refused() -> None:
    two, three = entry(*[1] * 6, counts=(1, 1)), entry(*[1] * 6, counts=(1, 1, 1))
    with pytest.raises(BadCheckpoint, match="2 experts there, 3 here"):
        merge([(A, sums(up=two)), (B, sums(up=three))])


def test_the_older_format_counts_calls_of_a_chunk(tmp_path: Path) -> None:
    (tmp_path / "m.dat").write_bytes(dat(record(UP, 2, floats(3, 4))))
    old = read_sums(tmp_path / "m.dat")

    merged = merge([(tmp_path / "m.dat", old), (B, sums(up=entry(100, 200)))])

    assert merged.datasets == ("m.dat", "text")  # it names no text of its own
    assert numbers(merged.entries[UP]) == ([3 * 512 + 100, 4 * 512 + 200], [3 * 512])
    assert merged.n_chunks == 3
    by_100 = merge([(tmp_path / "m.dat", old)], 100)
    assert numbers(by_100.entries[UP]) == ([300, 400], [200])
    assert (by_100.n_chunks, by_100.chunk_size) == (2, 100)


def test_chunks_of_several_sizes_count_as_llama_imatrixs_own() -> None:
    parts = [Sums(sums(up=entry(1)).entries, ("t",), 1, size) for size in (128, 256)]
    assert merge([(A, parts[0]), (B, parts[1])]).chunk_size == 512
    assert merge([(A, parts[0])]).chunk_size == 128
    assert merge([(A, parts[0])]).n_chunks == 4


columns = st.lists(st.floats(0, 2.0**60, width=32), min_size=1, max_size=8)


@given(columns=columns, counts=st.integers(0, 2**24))
def test_files_give_back_what_was_written(
    columns: list[float], counts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("m") / "m.gguf"
    written = Sums(
        {UP: entry(*columns, counts=(counts,))}, ("a", "ü"), 7, 64, {"fwlocal.imatrix.x": 3}
    )
    write_sums(path, written)

    found = read_sums(path)

    assert numbers(found.entries[UP]) == numbers(written.entries[UP])
    assert (found.datasets, found.n_chunks, found.chunk_size) == (("a", "ü"), 7, 64)
    assert found.keys == written.keys
    assert not found.is_mean


def test_the_file_is_laid_out_as_llama_imatrixs(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_sums(path, sums(up=entry(1, 2, 3, 4, counts=(5, 0)), down=entry(1, 2)))

    reader = gguf.GGUFReader(path)

    assert [(t.name, t.shape.tolist(), t.tensor_type.name) for t in reader.tensors] == [
        (f"{DOWN}.in_sum2", [2], "F32"),
        (f"{DOWN}.counts", [1], "F32"),
        (f"{UP}.in_sum2", [2, 2], "F32"),
        (f"{UP}.counts", [1, 2], "F32"),
    ]
    keys = {key for key in reader.fields if not key.startswith("GGUF.")}
    assert keys == {
        "general.type",
        "imatrix.datasets",
        "imatrix.chunk_count",
        "imatrix.chunk_size",
    }
    assert read_imatrix(path).weights[UP].tolist() == floats(0.2, 0.4, 1, 1).tolist()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"folder: cannot be written .* another --out"):
        write_sums(tmp_path / "folder", sums(up=entry(1)))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_experts_that_no_text_reached_are_counted() -> None:
    found = sums(up=entry(1, 2, 3, counts=(0, 4, 0)), down=entry(1, counts=(0,)))
    assert unreached(found) == (2, 3)


def test_more_of_the_same_may_not_overflow() -> None:
    with pytest.raises(ValueError, match="a sum grows to inf"):
        added(entry(3e38), entry(3e38))
