"""GGUF files that are whole, and files with one thing wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from convert.sources.tensors import TENSOR_HASHES, TENSOR_TABLE, table_digest
from convert.verify import SLICE_BYTES, Damage, verify
from fwlocal.errors import BadModelFile
from fwlocal.gguf import read_header

Array = npt.NDArray[np.generic]
Tensors = Mapping[str, Array]

QUANTIZED = ("blk.0.ffn_up.weight", gguf.GGMLQuantizationType.Q8_0)


@pytest.fixture(scope="session")
def tensors() -> dict[str, Array]:
    """An F32 and a Q8_0 tensor."""
    rows = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    name, kind = QUANTIZED
    return {"output_norm.weight": rows[0], name: gguf.quants.quantize(rows, kind)}


def sha256(data: Array) -> str:
    return hashlib.sha256(data.tobytes()).hexdigest()


def write(
    path: Path,
    tensors: Tensors,
    hashes: Sequence[str] | None = None,
    numbers: Mapping[str, int] | None = None,
    table: str | None = None,
) -> Path:
    """A GGUF of ``tensors``: uint8 ones are Q8_0 blocks."""
    writer = gguf.GGUFWriter(path, "llama")
    if hashes is not None:
        writer.add_array(TENSOR_HASHES, list(hashes))
    if table is not None:
        writer.add_string(TENSOR_TABLE, table)
    for key, number in (numbers or {}).items():
        writer.add_uint16(key, number)
    for name, data in tensors.items():
        writer.add_tensor(name, data, raw_dtype=QUANTIZED[1] if data.dtype == np.uint8 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_hashed(path: Path, tensors: Tensors) -> Path:
    return write(path, tensors, [sha256(data) for data in tensors.values()])


def overwrite(path: Path, tensor: str, at: int, data: bytes) -> None:
    """Change bytes of ``tensor`` in the file, ``at`` bytes from its start."""
    header = read_header(path)
    (info,) = (info for info in header.tensors if info.name == tensor)
    with path.open("r+b") as file:
        file.seek(header.data_offset + info.offset + at)
        file.write(data)


def refused(path: Path) -> str:
    with pytest.raises(BadModelFile) as caught:
        verify(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_whole_file_is_good(tmp_path: Path, tensors: Tensors) -> None:
    told: list[float] = []
    verdict = verify(write_hashed(tmp_path / "m.gguf", tensors), told.append)
    assert (verdict.n_tensors, verdict.n_hashed, verdict.damaged) == (2, 2, ())
    assert told == sorted(told)
    assert told[-1] == 1
    assert 0 < told[0] < 1


def test_hashes_may_be_in_capitals(tmp_path: Path, tensors: Tensors) -> None:
    hashes = [sha256(data).upper() for data in tensors.values()]
    assert verify(write(tmp_path / "m.gguf", tensors, hashes)).damaged == ()


@pytest.mark.parametrize("name", ["output_norm.weight", QUANTIZED[0]])
@pytest.mark.parametrize("at", [2, -1])
def test_one_flipped_bit_is_found(tmp_path: Path, tensors: Tensors, name: str, at: int) -> None:
    path = write_hashed(tmp_path / "m.gguf", tensors)
    data = tensors[name].tobytes()
    overwrite(path, name, at % len(data), bytes([data[at] ^ 1]))
    assert verify(path).damaged == (Damage(name, "its SHA-256 differs"),)


def test_hashes_are_in_the_order_of_the_tensors(tmp_path: Path, tensors: Tensors) -> None:
    hashes = [sha256(data) for data in tensors.values()]
    verdict = verify(write(tmp_path / "m.gguf", tensors, hashes[::-1]))
    assert [damage.tensor for damage in verdict.damaged] == list(tensors)


def test_a_scale_that_is_nan_is_found_without_hashes(tmp_path: Path, tensors: Tensors) -> None:
    path = write(tmp_path / "m.gguf", tensors)
    assert (verify(path).n_hashed, verify(path).damaged) == (0, ())

    overwrite(path, QUANTIZED[0], 5 * 34, b"\xff\xff")
    overwrite(path, "output_norm.weight", 3 * 4, np.float32("inf").tobytes())

    assert verify(path).damaged == (
        Damage("output_norm.weight", "element 3 is not finite"),
        Damage(QUANTIZED[0], "block 5 has a scale that is not finite"),
    )


def test_both_damages_of_a_tensor_are_told(tmp_path: Path, tensors: Tensors) -> None:
    path = write_hashed(tmp_path / "m.gguf", tensors)
    overwrite(path, QUANTIZED[0], 0, b"\xff\xff")
    assert verify(path).damaged == (
        Damage(QUANTIZED[0], "its SHA-256 differs"),
        Damage(QUANTIZED[0], "block 0 has a scale that is not finite"),
    )


def test_large_tensors_are_read_in_slices(tmp_path: Path) -> None:
    n_blocks = 2 * SLICE_BYTES // 34 + 100
    large: dict[str, Array] = {
        "a": np.full((n_blocks, 34), 1, np.uint8),
        "b": np.ones(32, np.float32),
    }
    path = write_hashed(tmp_path / "m.gguf", large)
    told: list[float] = []
    assert verify(path, told.append).damaged == ()
    assert len(told) == 3 + 1 + 1

    bad = n_blocks - 1
    overwrite(path, "a", bad * 34, b"\x00\x7c")
    assert [damage.what for damage in verify(path).damaged] == [
        "its SHA-256 differs",
        f"block {bad} has a scale that is not finite",
    ]


def test_a_truncated_file_is_refused(tmp_path: Path, tensors: Tensors) -> None:
    path = write_hashed(tmp_path / "m.gguf", tensors)
    header = read_header(path)
    end = header.data_offset + header.tensors[-1].offset + header.tensors[-1].size_bytes
    path.write_bytes(path.read_bytes()[: end - 1])
    assert "truncated" in refused(path)


@pytest.mark.parametrize(
    ("hashes", "message"),
    [
        (["0" * 64], "has 1 entries for 2 tensors"),
        (["0" * 64] * 3, "has 3 entries for 2 tensors"),
        (["0" * 64, "0" * 63], "has no 64 hex digits at 1"),
        (["g" * 64, "0" * 64], "has no 64 hex digits at 0"),
        (["0" * 64, "0" * 64 + "\n"], "has no 64 hex digits at 1"),
        ([1, 2], "is no array of strings"),
    ],
)
def test_hashes_that_are_none_are_refused(
    tmp_path: Path, tensors: Tensors, hashes: list[str], message: str
) -> None:
    path = write(tmp_path / "m.gguf", tensors, hashes)
    assert f"{path}: damaged GGUF: {TENSOR_HASHES} {message}" in refused(path)


def write_split(folder: Path, tensors: Tensors) -> list[Path]:
    """One file for each tensor, named and numbered as llama-gguf-split does."""
    count = len(tensors)
    return [
        write(
            folder / f"m-{number + 1:05}-of-{count:05}.gguf",
            {name: data},
            [sha256(data)],
            {"split.no": number, "split.count": count},
        )
        for number, (name, data) in enumerate(tensors.items())
    ]


def test_all_files_of_a_split_one_are_checked(tmp_path: Path, tensors: Tensors) -> None:
    parts = write_split(tmp_path, tensors)
    for part in parts:
        told: list[float] = []
        verdict = verify(part, told.append)
        assert (verdict.n_tensors, verdict.n_hashed, verdict.damaged) == (2, 2, ())
        assert told == sorted(told)

    overwrite(parts[1], QUANTIZED[0], 2, b"\x7f\x7f\x7f")
    assert verify(parts[0]).damaged == (Damage(QUANTIZED[0], "its SHA-256 differs"),)


def test_a_missing_part_is_named(tmp_path: Path, tensors: Tensors) -> None:
    first, second = write_split(tmp_path, tensors)
    second.unlink()
    assert f"{second}: missing: one of 2 parts" in refused(first)


def test_a_part_under_another_parts_name_is_refused(tmp_path: Path, tensors: Tensors) -> None:
    first, second = write_split(tmp_path, tensors)
    second.write_bytes(first.read_bytes())
    assert f"{second}: split.no is 0, not 1" in refused(first)


@pytest.mark.parametrize("name", ["m-00003-of-00002.gguf", "m-00000-of-00000.gguf"])
def test_a_name_that_is_no_part_is_one_file(tmp_path: Path, tensors: Tensors, name: str) -> None:
    assert verify(write_hashed(tmp_path / name, tensors)).n_tensors == 2


def test_a_file_without_tensors_is_good(tmp_path: Path) -> None:
    told: list[float] = []
    assert verify(write(tmp_path / "m.gguf", {}), told.append).n_tensors == 0
    assert told == [1]


def test_hashes_that_a_tool_copied_are_not_held_against_a_file(tmp_path: Path) -> None:
    hashed = {"a.weight": np.ones((4, 32), np.float32)}
    other = {"a.weight": np.zeros((2, 32), np.float32), "b.weight": np.ones((2, 32), np.float32)}
    table = table_digest([("a.weight", "F32", (32, 4))])
    own, copied = (
        write(tmp_path / name, tensors, [sha256(hashed["a.weight"])], table=table)
        for name, tensors in (("own.gguf", hashed), ("copied.gguf", other))
    )
    assert verify(own).n_hashed == 1
    verdict = verify(copied)
    assert (verdict.n_tensors, verdict.n_hashed, verdict.damaged) == (2, 0, ())
    assert verdict.has_foreign_hashes
