"""Importance matrices in both of llama.cpp's formats, whole and damaged, written here."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.imatrix import ImportanceMatrix, read_imatrix, weights_for
from fwlocal.errors import BadCheckpoint, FwlocalError

Floats = npt.NDArray[np.float32]

DOWN, GATE = "blk.0.ffn_down.weight", "blk.0.ffn_gate.weight"
KEYS = {"imatrix.chunk_count": 5, "imatrix.chunk_size": 512}


def floats(*values: float) -> Floats:
    return np.array(values, np.float32)


def write_gguf(
    path: Path,
    tensors: Mapping[str, npt.NDArray[np.generic]],
    *,
    kind: str = "imatrix",
    datasets: Sequence[str] = ("wiki.txt", "code.txt"),
    keys: Mapping[str, int] = KEYS,
) -> Path:
    """A matrix as llama-imatrix writes it: ``tensors`` are its NAME.in_sum2 and NAME.counts."""
    writer = gguf.GGUFWriter(path, "")
    writer.add_type(kind)
    writer.add_array("imatrix.datasets", list(datasets))
    for key, value in keys.items():
        writer.add_uint32(key, value)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str) -> bytes:
    return struct.pack("<i", len(value.encode())) + value.encode()


def record(name: str, calls: int, values: Floats) -> bytes:
    return text(name) + struct.pack("<ii", calls, len(values)) + values.astype("<f4").tobytes()


def dat(*records: bytes, tail: bytes = b"") -> bytes:
    """The older format."""
    return struct.pack("<i", len(records)) + b"".join(records) + tail


def refused(path: Path, data: bytes | None = None) -> str:
    """The message that the file, or one of ``data``, is refused with."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FwlocalError) as caught:
        read_imatrix(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_gguf_weights_are_the_mean_of_each_column(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf",
        {
            f"{DOWN}.in_sum2": floats(1, 2, 6, 0),
            f"{DOWN}.counts": floats(3),
            f"{GATE}.in_sum2": floats(5, 0.5),
            f"{GATE}.counts": floats(1),
        },
    )

    matrix = read_imatrix(path)

    assert matrix.path == path
    assert matrix.datasets == ("wiki.txt", "code.txt")
    assert matrix.n_chunks == 5
    assert set(matrix.weights) == {DOWN, GATE}
    assert matrix.weights[DOWN].dtype == np.float32
    assert matrix.weights[DOWN].tolist() == floats(1 / 3, 2 / 3, 2, 0).tolist()
    assert matrix.weights[GATE].tolist() == [5, 0.5]


def test_dat_weights_are_the_mean_of_each_column(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    tail = struct.pack("<i", 7) + text("wiki.txt")
    path.write_bytes(
        dat(record(DOWN, 3, floats(1, 2, 6, 0)), record(GATE, 0, floats(5, 0.5)), tail=tail)
    )

    matrix = read_imatrix(path)

    assert (matrix.datasets, matrix.n_chunks) == (("wiki.txt",), 7)
    assert matrix.weights[DOWN].dtype == np.float32
    assert matrix.weights[DOWN].tolist() == floats(1 / 3, 2 / 3, 2, 0).tolist()
    assert matrix.weights[GATE].tolist() == [5, 0.5]  # no calls: the values as they are


@pytest.mark.parametrize(
    ("tail", "datasets", "n_chunks"),
    [
        (b"", (), 0),
        (struct.pack("<i", 7), (), 7),
        (struct.pack("<ii", 7, 0), (), 7),
    ],
)
def test_older_dat_files_end_sooner(
    tmp_path: Path, tail: bytes, datasets: tuple[str, ...], n_chunks: int
) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat(record(DOWN, 1, floats(1)), tail=tail))
    matrix = read_imatrix(path)
    assert (matrix.datasets, matrix.n_chunks) == (datasets, n_chunks)


@pytest.mark.parametrize(
    ("count", "divisor"), [(0.0, None), (0.4, None), (0.5, 1), (2.5, 3), (2.4, 2), (2.0**24, 2**24)]
)
def test_counts_are_rounded_and_none_gives_ones(
    tmp_path: Path, count: float, divisor: int | None
) -> None:
    sums = floats(0, 1, 7.5)
    path = write_gguf(
        tmp_path / "m.gguf", {f"{DOWN}.in_sum2": sums, f"{DOWN}.counts": floats(count)}
    )
    expected = np.ones(3, np.float32) if divisor is None else sums / np.float32(divisor)
    assert read_imatrix(path).weights[DOWN].tolist() == expected.tolist()


def test_experts_have_a_count_each(tmp_path: Path) -> None:
    tensors = {
        f"{DOWN}.in_sum2": np.array([[2, 4], [9, 9], [3, 1]], np.float32),
        f"{DOWN}.counts": np.array([[2], [0], [1]], np.float32),
    }
    matrix = read_imatrix(write_gguf(tmp_path / "m.gguf", tensors))
    assert matrix.weights[DOWN].tolist() == [1, 2, 1, 1, 3, 1]


positive = st.floats(0, 2.0**100, width=32)


@given(sums=st.lists(positive, min_size=1, max_size=40), count=st.integers(1, 2**31 - 1))
def test_both_formats_divide_once_in_float32(
    sums: list[float], count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("m")
    tensors = {f"{DOWN}.in_sum2": floats(*sums), f"{DOWN}.counts": floats(count)}
    (folder / "m.dat").write_bytes(dat(record(DOWN, count, floats(*sums))))
    expected = [float(np.float32(value) / np.float32(count)) for value in sums]

    for path in (write_gguf(folder / "m.gguf", tensors), folder / "m.dat"):
        weights = read_imatrix(path).weights[DOWN]
        assert weights.tolist() == expected
        assert not weights.flags.writeable


@pytest.fixture
def matrix(tmp_path: Path) -> ImportanceMatrix:
    path = tmp_path / "m.dat"
    names = (DOWN, "token_embd.weight")
    path.write_bytes(dat(*(record(name, 1, floats(1, 2, 3)) for name in names)))
    return read_imatrix(path)


def test_weights_must_fit_the_tensor(matrix: ImportanceMatrix) -> None:
    fitting = weights_for(matrix, DOWN, 3)
    assert fitting is not None
    assert fitting.tolist() == [1, 2, 3]
    assert weights_for(matrix, GATE, 3) is None
    with pytest.raises(BadCheckpoint, match=rf"{DOWN} has 3 weights, its rows here have 32:"):
        weights_for(matrix, DOWN, 32)


def test_token_embeddings_may_differ_as_llama_quantize_lets_them(matrix: ImportanceMatrix) -> None:
    assert weights_for(matrix, "token_embd.weight", 32) is None
    assert weights_for(matrix, "token_embd.weight", 3) is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_refuses_values_that_are_no_weights(tmp_path: Path, value: float) -> None:
    bad, good = floats(1, value), floats(1)
    sums = write_gguf(tmp_path / "s.gguf", {f"{DOWN}.in_sum2": bad, f"{DOWN}.counts": good})
    assert f"value 1 of {DOWN}.in_sum2 is" in refused(sums)
    counts = write_gguf(tmp_path / "c.gguf", {f"{DOWN}.in_sum2": good, f"{DOWN}.counts": bad[1:]})
    assert f"value 0 of {DOWN}.counts is" in refused(counts)
    assert f"value 1 of {DOWN} is" in refused(tmp_path / "m.dat", dat(record(DOWN, 1, bad)))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{DOWN}.in_sum2": floats(1)}, f"{DOWN}.counts is missing"),
        ({f"{DOWN}.counts": floats(1)}, f"{DOWN}.in_sum2 is missing"),
        ({DOWN: floats(1)}, "it holds no weights"),
        (
            {f"{DOWN}.in_sum2": floats(1, 2, 3), f"{DOWN}.counts": floats(1, 1)},
            f"{DOWN} has 3 sums for 2 counts",
        ),
        (
            {f"{DOWN}.in_sum2": floats(1).astype(np.float16), f"{DOWN}.counts": floats(1)},
            f"{DOWN}.in_sum2 is F16, not F32",
        ),
    ],
)
def test_refuses_gguf_tensors_that_do_not_pair(
    tmp_path: Path, tensors: dict[str, npt.NDArray[np.generic]], message: str
) -> None:
    found = refused(write_gguf(tmp_path / "m.gguf", tensors))
    assert message in found
    assert "make it with `fwlocal imatrix" in found


def test_refuses_gguf_files_of_another_kind(tmp_path: Path, tiny_gguf: Path) -> None:
    pair = {f"{DOWN}.in_sum2": floats(1), f"{DOWN}.counts": floats(1)}
    model = write_gguf(tmp_path / "m.gguf", pair, kind="model")
    assert "general.type is 'model'" in refused(model)
    assert "general.type is None" in refused(tiny_gguf)
    keyless = write_gguf(tmp_path / "k.gguf", pair, keys={"imatrix.chunk_count": 1})
    assert "imatrix.chunk_size is missing" in refused(keyless)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the number of tensors needs 4 bytes, 0 are left"),
        (struct.pack("<i", 2**31 - 1), "is no importance matrix; make it with"),
        (b"an ordinary text, long enough to hold a record or two", "is no importance matrix"),
        (struct.pack("<ii", 1, 2**31 - 1) + b"x" * 32, "needs 2147483647 bytes, 32 are left"),
        (struct.pack("<ii", 1, -1) + b"x" * 32, "needs -1 bytes"),
        (dat(text("a\nb") + b"\1\0\0\0" * 3), r"none: 'a\nb'"),
        (dat(text("a" * 64) + b"\1\0\0\0" * 3), "the name of tensor 0 is none"),
        (dat(text(DOWN) + struct.pack("<iif", 1, 2**30, 1)), "needs 4294967296 bytes, 4 are left"),
        (dat(text(DOWN) + struct.pack("<iif", -1, 1, 1)), "claims -1 calls and 1 values"),
        (dat(text(DOWN) + struct.pack("<iif", 1, 0, 1)), "claims 1 calls and 0 values"),
        (dat(*[record(DOWN, 1, floats(1))] * 2), f"{DOWN} is there twice"),
        (dat(record(DOWN, 1, floats(1)), tail=struct.pack("<iii", 7, 0, 0)), "4 bytes too many"),
    ],
)
def test_refuses_damaged_dat_files(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in refused(tmp_path / "m.dat", data)


def test_refuses_a_dat_file_cut_anywhere(tmp_path: Path) -> None:
    whole = dat(record(DOWN, 1, floats(1, 2)), record(GATE, 1, floats(3)))
    for length in range(len(whole)):
        refused(tmp_path / "m.dat", whole[:length])


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("m") / "m.dat"
    path.write_bytes(struct.pack("<i", 1) + data)
    try:
        matrix = read_imatrix(path)
    except FwlocalError:
        return
    assert sum(map(len, matrix.weights.values())) * 4 <= len(data)


def test_refuses_what_cannot_be_opened(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "missing.gguf")
    assert "is no regular file" in refused(tmp_path)
