"""A GGUF as a source: its tensors and its keys, as they are; what cannot be converted, named."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.gguf_file import open_gguf
from convert.model import Model
from convert.recipes import ModelShape
from convert.sources.tensors import FLOATS
from fwlocal.errors import BadModelFile, UsageError
from tests import tiny_llama
from tests.convert import llama_quant
from tests.convert.checkpoints import cast
from tests.convert.refused import refused

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(size=(6, 32)).astype(np.float32)
VECTOR = RANDOM.normal(size=9).astype(np.float32)

# Every type that a value can have; strings and numbers at their limits.
KEYS = {
    "x.u8": (255, Kind.UINT8, None),
    "x.i8": (-128, Kind.INT8, None),
    "x.u16": (65535, Kind.UINT16, None),
    "x.i16": (-32768, Kind.INT16, None),
    "x.u32": (2**32 - 1, Kind.UINT32, None),
    "x.i32": (-(2**31), Kind.INT32, None),
    "x.u64": (2**64 - 1, Kind.UINT64, None),
    "x.i64": (-(2**63), Kind.INT64, None),
    "x.f32": (0.5, Kind.FLOAT32, None),
    "x.f64": (0.1, Kind.FLOAT64, None),
    "x.bool": (True, Kind.BOOL, None),
    "x.string": ("鯨 \n\0", Kind.STRING, None),
    "x.empty": ("", Kind.STRING, None),
    "x.bytes": ([0, 255], Kind.ARRAY, Kind.UINT8),
    "x.floats": ([0.25, -1.0], Kind.ARRAY, Kind.FLOAT32),
    "x.doubles": ([0.1], Kind.ARRAY, Kind.FLOAT64),
    "x.bools": ([True, False], Kind.ARRAY, Kind.BOOL),
    "x.strings": (["a", "", "鯨"], Kind.ARRAY, Kind.STRING),
    "x.i32s": ([-1, 2], Kind.ARRAY, Kind.INT32),
    "general.name": ("tiny", Kind.STRING, None),
}


def write(
    path: Path, change: Callable[[gguf.GGUFWriter], object] = lambda _: None, arch: str = "llama"
) -> Path:
    """A GGUF of a matrix in each float type and a vector; ``change`` adds to it."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    for dtype in FLOATS:
        data = cast(MATRIX, dtype)
        data = data.view(np.uint8) if dtype == "BF16" else data
        writer.add_tensor(f"{dtype}.weight", data, raw_dtype=Type[dtype])
    writer.add_tensor("norm.weight", VECTOR)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def opened(path: Path, *, allow_requantize: bool = False) -> Model:
    return open_gguf(path, allow_requantize=allow_requantize)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all that only read it."""
    return write(tmp_path_factory.mktemp("gguf") / "plain.gguf")


def test_tensors_as_they_are(plain: Path) -> None:
    model = opened(plain)
    with closing(model.source):
        assert [(t.name, t.dtype, t.shape, t.source_name, t.n_head) for t in model.tensors] == [
            ("F32.weight", "F32", (6, 32), "F32.weight", 0),
            ("F16.weight", "F16", (6, 32), "F16.weight", 0),
            ("BF16.weight", "BF16", (6, 32), "BF16.weight", 0),
            ("norm.weight", "F32", (9,), "norm.weight", 0),
        ]
        assert model.shape == ModelShape(2, 4, 2)
        assert [file.path for file in model.source.files] == [plain]
        assert model.source.read_rows("norm.weight", 0, 1).tobytes() == VECTOR.tobytes()


@settings(deadline=None, max_examples=50)
@given(dtype=st.sampled_from(FLOATS), first=st.integers(0, 6), last=st.integers(0, 6))
def test_any_range_of_rows(dtype: str, first: int, last: int, plain: Path) -> None:
    first, last = min(first, last), max(first, last)
    with closing(opened(plain).source) as source:
        rows = source.read_rows(f"{dtype}.weight", first, last - first)
    assert rows.tobytes() == cast(MATRIX, dtype)[first:last].tobytes()


def test_keys_are_copied_with_their_types(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        for key, (value, kind, sub) in KEYS.items():
            writer.add_key_value(key, value, kind, sub)

    path = write(tmp_path / "keys.gguf", add)
    model = opened(path)
    model.source.close()
    expected = {key: gguf.GGUFValue(*value) for key, value in KEYS.items()}
    found = {key: value for key, value in model.keys.items() if key in KEYS}
    assert list(found.items()) == list(expected.items())
    assert [type(value.value) for value in found.values()] == [type(v) for v, *_ in KEYS.values()]
    fields = gguf.GGUFReader(path).fields
    assert model.keys.keys() == {key for key in fields if not key.startswith("GGUF.")}


def test_what_tells_of_the_file_is_not_copied(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_custom_alignment(64)
        writer.add_uint16("split.count", 1)
        writer.add_uint16("split.no", 0)
        writer.add_array("fwlocal.tensor.sha256", ["0" * 64])
        writer.add_string("fwlocal.tensor.table", "0" * 64)
        writer.add_string("fwlocal.model", "kept")

    path = write(tmp_path / "m.gguf", add)
    model = opened(path)
    with closing(model.source):
        keys = model.keys.keys()
        assert not [key for key in keys if key.startswith(("split.", "fwlocal.tensor"))]
        assert "general.alignment" not in keys  # the new file has its own
        assert {"fwlocal.model", "general.architecture", "llama.block_count"} <= keys
        rows = model.source.read_rows("F16.weight", 0, 6)
        assert rows.tobytes() == cast(MATRIX, "F16").tobytes()  # aligned as the file says


def test_odd_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", lambda w: w.add_array("x.list", ["some", "text"]))
    data = path.read_bytes()
    at = data.index(b"some")
    path.write_bytes(data[:at] + b"\xff\xfe\xfd\xfc" + data[at + 4 :])
    refused(lambda: opened(path), path, "its keys cannot be copied", "convert the original")
    count = data.index(b"x.list") + 6 + 4 + 4  # an array of none, and the strings are gone
    after = at + 4 + 8 + 4
    path.write_bytes(data[:count] + bytes(8) + data[after:])
    path.write_bytes(path.read_bytes().ljust(len(data), b"\0"))
    model = opened(path)
    model.source.close()
    assert "x.list" not in model.keys


def test_quantized_tensors_only_on_request(tmp_path: Path) -> None:
    shape = tiny_llama.Shape()
    source = tiny_llama.write_gguf(tmp_path / "source.gguf", shape)
    path = tmp_path / "q8.gguf"
    llama_quant.quantize(source, path, "Q8_0")
    message = refused(lambda: opened(path), path, "(Q8_0)", "--allow-requantize", error=UsageError)
    assert "weight is quantized already" in message
    model = opened(path, allow_requantize=True)
    reader = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with closing(model.source):
        assert [tensor.name for tensor in model.tensors] == list(reader)
        for tensor in model.source.tensors.values():
            theirs = reader[tensor.name]
            assert tensor.dtype == theirs.tensor_type.name
            assert model.source.read_rows(tensor.name, 0, tensor.n_rows).tobytes() == (
                theirs.data.tobytes()
            )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda w: w.add_expert_count(8), "mixture of experts"),
        (lambda w: w.add_uint16("split.count", 3), "llama-gguf-split --merge"),
        (lambda w: w.add_tensor("ids", np.arange(4, dtype=np.int32)), "ids is of type I32"),
        (lambda w: w.add_tensor("w", np.ones(4)), "w is of type F64"),
    ],
)
@pytest.mark.parametrize("allow_requantize", [True, False])
def test_what_cannot_be_converted(
    change: Callable[[gguf.GGUFWriter], object], what: str, allow_requantize: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.gguf", change)
    refused(lambda: opened(path, allow_requantize=allow_requantize), path, what)


def test_another_architecture(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", arch="qwen2")
    refused(lambda: opened(path), path, "'qwen2' is not supported; llama is")


def test_a_damaged_file(plain: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "m.gguf", plain.read_bytes()
    refused(lambda: opened(path), path, "No such file", error=BadModelFile)
    for cut, what in (
        (len(data) - 40, f"{len(data) - 40} on disk"),
        (100, "damaged"),
        (8, "no GGUF"),
    ):
        path.write_bytes(data[:cut])
        refused(lambda: opened(path), path, what, error=BadModelFile)


def test_a_file_that_shrinks_later(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(plain.read_bytes())
    with closing(opened(path).source) as source:
        os.truncate(path, path.stat().st_size - 40)
        refused(lambda: source.read_rows("norm.weight", 0, 1), path, "norm.weight", "fetch or copy")


@pytest.mark.parametrize(("kind", "size"), [("Q8_1", 36), ("Q8_K", 292)])
def test_what_ggml_cannot_widen_is_refused(kind: str, size: int, tmp_path: Path) -> None:
    """Its own intermediates: the kernels have no way back, and would end the process."""
    block = np.zeros((2, size), np.uint8)
    path = write(tmp_path / "m.gguf", lambda w: w.add_tensor("x.weight", block, raw_dtype=Type.I8))
    data = path.read_bytes()
    at = data.index(b"x.weight") + 8 + 4  # after the name: dimensions, type
    elements = {"Q8_1": 32, "Q8_K": 256}[kind]
    changed = struct.pack("<QQI", elements, 2, Type[kind])
    path.write_bytes(data[:at] + changed + data[at + len(changed) :])
    refused(lambda: open_gguf(path, allow_requantize=True), path, "x.weight is of type", kind)
