"""Torch checkpoints without torch: what they hold, and what none may do.

``written_by_torch.bin`` was written by torch 2.13 with

    tied = torch.arange(6.0).reshape(2, 3) + 0.5
    pool = torch.arange(20.0)
    state = OrderedDict(
        f32=torch.arange(12.0).reshape(3, 4) / 8,
        bf16=torch.arange(-4.0, 4.0).reshape(2, 4).to(torch.bfloat16),
        f16=torch.arange(5.0).to(torch.float16) / 2,
        parameter=torch.nn.Parameter(torch.arange(4.0).reshape(2, 2) - 1),
        transposed=torch.arange(6.0).reshape(2, 3).T,
        embedding=tied,
        head=tied,
        window=pool[4:16].reshape(3, 4),
        columns=pool.reshape(4, 5)[:, 1:3],
        scalar=torch.tensor(2.5),
        steps=torch.tensor([7, 8]),
    )
    state._metadata = OrderedDict({"": {"version": 1}})
    torch.save(state, "tests/convert/written_by_torch.bin")
"""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.sources import torch_file, torch_pickle, torch_zip
from convert.sources.tensors import StoredRange
from convert.sources.torch_file import TorchFile
from convert.sources.weight_file import WeightFile
from fwlocal.errors import BadCheckpoint
from tests.convert import torch_writer as tw
from tests.convert.torch_writer import View

Array = npt.NDArray[Any]

WRITTEN_BY_TORCH = Path(__file__).with_name("written_by_torch.bin")
NUMPY_TYPES = {"F32": "f4", "F16": "f2", "F64": "f8", "I64": "i8", "BOOL": "?", "BF16": "u2"}


def read_all(path: Path) -> dict[str, Array]:
    """Every tensor, in its shape; bfloat16 widened to float32."""
    with closing(TorchFile(WeightFile(path))) as source:
        tensors = {}
        for name, tensor in source.tensors.items():
            data = source.read_rows(name, 0, tensor.n_rows).view(NUMPY_TYPES[tensor.dtype])
            if tensor.dtype == "BF16":
                data = (data.astype(np.uint32) << 16).view(np.float32)
            tensors[name] = data.reshape(tensor.shape)
        return tensors


def refusal(path: Path) -> str:
    """The one line that refuses the file."""
    with pytest.raises(BadCheckpoint) as raised:
        TorchFile(WeightFile(path))
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


# What torch wrote


def test_a_file_written_by_torch() -> None:
    tensors = read_all(WRITTEN_BY_TORCH)
    expected = {
        "f32": np.arange(12.0).reshape(3, 4) / 8,
        "bf16": np.arange(-4.0, 4.0).reshape(2, 4),
        "f16": np.arange(5.0) / 2,
        "parameter": np.arange(4.0).reshape(2, 2) - 1,
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "embedding": np.arange(6.0).reshape(2, 3) + 0.5,
        "head": np.arange(6.0).reshape(2, 3) + 0.5,
        "window": np.arange(4.0, 16.0).reshape(3, 4),
        "columns": np.arange(20.0).reshape(4, 5)[:, 1:3],
        "scalar": np.array([2.5]),
        "steps": np.array([7, 8]),
    }
    assert list(tensors) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values, name)


def test_dtypes_and_offsets_of_a_file_written_by_torch() -> None:
    data = WRITTEN_BY_TORCH.read_bytes()
    with closing(TorchFile(WeightFile(WRITTEN_BY_TORCH))) as source:
        tensors = source.tensors
        assert [file.path for file in source.files] == [WRITTEN_BY_TORCH]
    dtypes = {name: tensors[name].dtype for name in ("f32", "bf16", "f16", "steps")}
    assert dtypes == {"f32": "F32", "bf16": "BF16", "f16": "F16", "steps": "I64"}
    assert tensors["head"].offset == tensors["embedding"].offset
    assert struct.unpack_from("<f", data, tensors["window"].offset) == (4.0,)
    assert struct.unpack_from("<f", data, tensors["columns"].offset) == (1.0,)


def test_the_checksums_are_those_of_the_storages() -> None:
    data = WRITTEN_BY_TORCH.read_bytes()
    with closing(TorchFile(WeightFile(WRITTEN_BY_TORCH))) as source:
        checksums = source.checksums[WRITTEN_BY_TORCH]
    assert [entry.name for entry in checksums] == [f"written_by_torch/data/{i}" for i in range(9)]
    for entry in checksums:
        assert zlib.crc32(data[entry.offset : entry.offset + entry.size_bytes]) == entry.crc32
    assert isinstance(checksums[0], StoredRange)
    assert checksums[0].size_bytes == 12 * 4


# Rows


def test_a_range_of_rows(path: Path) -> None:
    matrix = np.arange(20, dtype=np.float32).reshape(5, 4)
    tw.save(path, {"weight": matrix})
    with closing(TorchFile(WeightFile(path))) as source:
        rows = source.read_rows("weight", 1, 3)
        assert rows.dtype == np.uint8
        assert rows.tobytes() == matrix[1:4].tobytes()
        assert source.read_rows("weight", 5, 0).size == 0
        with pytest.raises(ValueError, match="rows 3 to 6"):
            source.read_rows("weight", 3, 3)


def test_bfloat16_shared_storages_and_any_folder(path: Path) -> None:
    tied = np.arange(6, dtype=np.float16).reshape(2, 3)
    bits = np.array([0x3F80, 0xC000], np.uint16)
    tw.save(path, {"embed": tied, "head": tied, "norm": tw.bf16(bits)}, folder="pytorch_model")
    tensors = read_all(path)
    np.testing.assert_array_equal(tensors["embed"], tied)
    np.testing.assert_array_equal(tensors["head"], tied)
    np.testing.assert_array_equal(tensors["norm"], [1.0, -2.0])
    with closing(TorchFile(WeightFile(path))) as source:
        assert [entry.name for entry in source.checksums[path]] == [
            "pytorch_model/data/0",
            "pytorch_model/data/1",
        ]


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any view of up to three dimensions: transposed, sliced, expanded, overlapping."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    strides = tuple(draw(st.integers(0, 9)) for _ in shape)
    if draw(st.booleans()):  # a permuted contiguous tensor
        order = draw(st.permutations(range(len(shape))))
        step = 1
        found = dict.fromkeys(order, 0)
        for axis in order:
            found[axis] = step
            step *= shape[axis]
        strides = tuple(found[axis] for axis in range(len(shape)))
    offset = draw(st.integers(0, 3))
    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return View(np.arange(reach + 1, dtype=np.float32), shape, strides, offset)


@given(view=views(), data=st.data(), span=st.sampled_from([1, 16, 1 << 22]))
@settings(max_examples=200, deadline=1000)
def test_any_view_is_gathered_as_numpy_would(
    view: View, data: st.DataObject, span: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("views") / "view.bin"
    tw.save(path, {"view": view})
    strides = [stride * 4 for stride in view.strides]
    start = view.storage[view.offset :]
    whole = np.lib.stride_tricks.as_strided(start, view.shape, strides)
    whole = np.ascontiguousarray(whole).reshape(-1, view.shape[-1])
    first = data.draw(st.integers(0, len(whole)))
    count = data.draw(st.integers(0, len(whole) - first))
    with closing(TorchFile(WeightFile(path))) as source, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_file, "SPAN_BYTES", span)
        rows = source.read_rows("view", first, count).view(np.float32)
    np.testing.assert_array_equal(rows.reshape(count, view.shape[-1]), whole[first:][:count])


def test_scalars_and_other_dtypes(path: Path) -> None:
    tensors: dict[str, Array | View] = {
        "scalar": View(np.array([0, 7], np.float32), (), (), 1),
        "f64": np.array([1.5]),
        "mask": np.array([True, False]),
        "u8": np.array([3], np.uint8),
    }
    tw.save(path, tensors)
    with closing(TorchFile(WeightFile(path))) as source:
        listed = {name: (tensor.dtype, tensor.shape) for name, tensor in source.tensors.items()}
        scalar = source.read_rows("scalar", 0, 1).view(np.float32)
    assert listed == {
        "scalar": ("F32", (1,)),
        "f64": ("F64", (1,)),
        "mask": ("BOOL", (2,)),
        "u8": ("U8", (1,)),
    }
    assert scalar.tolist() == [7.0]


def test_a_tensor_without_elements_is_refused_only_when_it_is_read(path: Path) -> None:
    tw.save(path, {"empty": np.zeros((3, 0), np.float32), "one": np.ones(1, np.float32)})
    with closing(TorchFile(WeightFile(path))) as source:
        assert source.tensors["empty"].shape == (3, 0)
        with pytest.raises(BadCheckpoint, match="empty has no elements"):
            source.read_rows("empty", 0, 1)


def test_a_file_truncated_while_it_is_open(path: Path) -> None:
    tw.save(path, {"weight": np.ones((64, 64), np.float32)})
    with closing(TorchFile(WeightFile(path))) as source:
        os.truncate(path, source.tensors["weight"].offset + 1000)
        with pytest.raises(BadCheckpoint, match=r"model.bin: truncated at weight: \d+ bytes exp"):
            source.read_rows("weight", 0, 64)


# What the pickle may hold


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_one_level_down(path: Path, key: str) -> None:
    tw.save(path, {"weight": np.ones(2, np.float32)}, wrapped_in=key)
    assert list(read_all(path)) == ["weight"]


def save_pickle(path: Path, top: bytes, **entries: bytes) -> None:
    """A checkpoint with the pickle ``top`` and one storage of four float32."""
    tw.write_zip(path, {"data.pkl": tw.pickle(top), "data/0": bytes(16), **entries})


WEIGHT = tw.tensor_of(View(np.zeros(4, np.float32), (2, 2), (2, 1)), "0")


def test_values_that_are_no_tensors_are_ignored(path: Path) -> None:
    items = [
        (tw.text("epoch"), tw.number(3)),
        (tw.text("none"), b"N"),
        (tw.text("name"), tw.text("llama")),
        (tw.number(5), WEIGHT),
        (tw.text("weight"), WEIGHT),
        (tw.text("losses"), b"](" + tw.number(1) + b"G" + struct.pack(">d", 0.5) + b"e"),
    ]
    save_pickle(path, tw.plain_dict(items))
    assert list(read_all(path)) == ["weight"]


@pytest.mark.parametrize(
    "top",
    [
        pytest.param(tw.plain_dict([(tw.text("epoch"), tw.number(3))]), id="no tensor"),
        pytest.param(tw.plain_dict([(tw.text("ema"), tw.plain_dict([]))]), id="another name"),
        pytest.param(WEIGHT, id="a bare tensor"),
        pytest.param(tw.tuple_of(WEIGHT), id="a tuple"),
    ],
)
def test_no_state_dict(path: Path, top: bytes) -> None:
    save_pickle(path, top)
    assert "holds no state dict" in refusal(path)


def system_call(marker: Path) -> dict[str, bytes]:
    """Pickles that would make ``marker`` if they were unpickled."""
    command = tw.text(f"echo > {marker}")
    system = tw.global_name(os.system.__module__, "system")
    on_stack = tw.text("os") + tw.text("system") + b"\x93"
    weights = tw.ordered_dict([(tw.text("weight"), WEIGHT)])
    metadata = tw.ordered_dict([(tw.text(""), tw.call(system, command))])
    return {
        "GLOBAL": tw.call(system, command),
        "STACK_GLOBAL": tw.call(on_stack, command),
        "_metadata": weights + tw.build(tw.plain_dict([(tw.text("_metadata"), metadata)])),
    }


@pytest.mark.parametrize(
    ("where", "module"),
    [("GLOBAL", os.system.__module__), ("STACK_GLOBAL", "os"), ("_metadata", os.system.__module__)],
)
def test_no_code_is_run(path: Path, where: str, module: str) -> None:
    marker = path.with_name("marker")
    save_pickle(path, system_call(marker)[where])
    message = refusal(path)
    assert f"calls for {module}.system," in message
    assert "load it with torch and save its state dict alone" in message
    assert not marker.exists()


def test_the_hostile_pickles_are_hostile(path: Path) -> None:
    marker = path.with_name("marker")
    pickle.loads(tw.pickle(system_call(marker)["GLOBAL"]))
    assert marker.exists()


def weights(*items: bytes) -> bytes:
    return tw.plain_dict([(tw.text("weight"), b"".join(items))])


REBUILD = tw.global_name("torch._utils", "_rebuild_tensor_v2")


@pytest.mark.parametrize(
    ("top", "complaint"),
    [
        (weights(WEIGHT, b"r\xff\xff\xff\x7f"), "the memo index 2147483647"),
        (weights(tw.global_name("builtins", "eval")), "builtins.eval"),
        (weights(tw.global_name("torch", "ComplexFloatStorage")), "torch.ComplexFloatStorage"),
        (weights(tw.global_name("torch", r"\escape")), r"calls for torch.\escape,"),
        (weights(b"(", tw.text("x"), b"ios\nsystem\n"), "INST"),
        (weights(tw.call(tw.global_name("torch", "FloatStorage"))), "torch.FloatStorage"),
        (weights(tw.call(REBUILD, tw.text("0"))), "wrong arguments"),
        (weights(tw.call(tw.text("print"), tw.text("0"))), "what is no function"),
        (weights(tw.text("0"), b"N", b"b"), "sets the state"),
        (weights(tw.text("0"), b"Q"), "no storage"),
        (weights(tw.tuple_of(tw.text("module"), b"N", b"N", b"N", b"N"), b"Q"), "no storage"),
        (weights(tw.call(REBUILD, b"N", b"K\0", b")", b")")), "weight: is no tensor"),
        (weights(tw.tuple_of(), tw.text("x"), b"a"), "no list"),
        (tw.text("x") + tw.number(1) + tw.number(1) + b"s", "no dict"),
        (weights(b"h\x07"), "is damaged"),
        (b"t" * 3, "is damaged"),
        (b"", "is damaged"),
        (weights(b"\xff"), "is damaged"),
    ],
)
def test_pickles_that_are_no_state_dict(path: Path, top: bytes, complaint: str) -> None:
    save_pickle(path, top)
    assert complaint in refusal(path)


FOUR = np.zeros(4, np.float32)


@pytest.mark.parametrize(
    ("view", "complaint"),
    [
        (View(FOUR, (2, 2), (2, 1), numel=5), "should have 5 of F32, but it has 16 bytes"),
        (View(FOUR, (2, 2), (2, 1), numel=3), "should have 3 of F32, but it has 16 bytes"),
        (View(FOUR, (2, 2), (2, 1), key="7"), "data/7 should have 4 of F32, but it is missing"),
        (View(FOUR, (2, 2), (2, 1), offset=1), "past the end of its storage of 4"),
        (View(FOUR, (2, 2), (3, 1)), "past the end of its storage of 4"),
        (View(FOUR, (5,), (1,)), "past the end of its storage of 4"),
        (View(FOUR, (0,), (1,), offset=5), "past the end of its storage of 4"),
        (View(FOUR, (-2, 2), (2, 1)), "impossible shape [-2, 2], strides [2, 1], offset 0"),
        (View(FOUR, (2, 2), (-2, 1)), "impossible shape"),
        (View(FOUR, (2, 2), (2, 1), offset=-1), "impossible shape"),
        (View(FOUR, (2, 1 << 70), (0, 0)), "impossible shape"),
        (View(FOUR, (2, 2), (1,)), "2 dimensions, but 1 strides"),
        (View(FOUR, (1 << 40, 1 << 40), (0, 0)), "repeats 4 elements"),
    ],
)
def test_views_that_cannot_be(path: Path, view: View, complaint: str) -> None:
    tw.save(path, {"model.norm.weight": view})
    message = refusal(path)
    assert complaint in message
    assert "model.norm.weight" in message


def test_a_name_that_would_break_the_line(path: Path) -> None:
    tw.save(path, {"two\nlines": FOUR})
    assert r"'two\nlines': is no tensor with a printable name" in refusal(path)


# The zip


def rewrite(
    path: Path, change: Callable[[str, zipfile.ZipInfo], None], **more: bytes
) -> dict[str, zipfile.ZipInfo]:
    """Copy the checkpoint at ``path`` over itself, with ``change`` applied to each entry's record
    before its data is written, and ``more`` entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**entries, **more}.items():
            info = zipfile.ZipInfo(name)
            change(name, info)
            archive.writestr(info, data)
        return {info.filename: info for info in archive.infolist()}


@pytest.fixture
def sound(path: Path) -> Path:
    """A sound checkpoint of two tensors."""
    tw.save(path, {"a": FOUR, "b": np.ones((2, 3), np.float32)})
    return path


def test_a_compressed_entry(sound: Path) -> None:
    def deflate(name: str, info: zipfile.ZipInfo) -> None:
        if name == "archive/data/1":
            info.compress_type = zipfile.ZIP_DEFLATED

    rewrite(sound, deflate)
    assert "archive/data/1 is compressed, torch never does that; if you trust it" in refusal(sound)


def patch_directory(path: Path, name: str, at: int, value: bytes) -> None:
    """Overwrite bytes ``at`` the start of the entry's record in the zip's directory."""
    data = bytearray(path.read_bytes())
    record = data.rindex(name.encode()) - 46
    assert data[record : record + 4] == b"PK\1\2"
    data[record + at : record + at + len(value)] = value
    path.write_bytes(data)


def header_offset(path: Path, name: str) -> int:
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo(name).header_offset


def test_an_encrypted_entry(sound: Path) -> None:
    patch_directory(sound, "archive/data/0", 8, b"\1\0")
    assert "archive/data/0 is encrypted" in refusal(sound)


def test_two_entries_of_one_name(sound: Path) -> None:
    patch_directory(sound, "archive/data/1", 46, b"archive/data/0")
    assert "two entries are called archive/data/0" in refusal(sound)


def test_overlapping_entries(sound: Path) -> None:
    first = header_offset(sound, "archive/data/0")
    patch_directory(sound, "archive/data/1", 42, struct.pack("<I", first))
    assert "archive/data/1" in (message := refusal(sound))
    assert "overlaps" in message


def test_an_entry_that_reaches_into_the_next(sound: Path) -> None:
    patch_directory(sound, "archive/data/0", 20, struct.pack("<II", 17 + 30, 17 + 30))
    assert "overlaps" in refusal(sound)


def test_an_entry_past_the_end_of_the_file(sound: Path) -> None:
    patch_directory(sound, "archive/data/1", 20, struct.pack("<II", 1 << 20, 1 << 20))
    assert "archive/data/1 has no sound header, or runs past the end" in refusal(sound)


def test_an_entry_without_its_own_header(sound: Path) -> None:
    start = header_offset(sound, "archive/data/1")
    data = bytearray(sound.read_bytes())
    data[start : start + 4] = b"PK\0\0"
    sound.write_bytes(data)
    assert "archive/data/1 has no sound header" in refusal(sound)


def test_a_damaged_pickle(sound: Path) -> None:
    data = sound.read_bytes()
    sound.write_bytes(data.replace(b"FloatStorage", b"FloatSt0rage"))
    assert "archive/data.pkl does not match its CRC" in refusal(sound)


def test_a_pickle_too_large_to_be_one(path: Path) -> None:
    size = torch_zip.MAX_SMALL_BYTES + 1
    tw.write_zip(path, {"data.pkl": bytes(size)})
    assert f"archive/data.pkl has {size} bytes" in refusal(path)


def test_a_directory_that_claims_most_of_the_file(sound: Path) -> None:
    claimed = 256 << 20
    end = sound.read_bytes()[-22:]
    os.truncate(sound, claimed)  # sparse
    with sound.open("ab") as file:
        file.write(end[:12] + struct.pack("<II", claimed - 100, 100) + end[20:])
    tracemalloc.start()
    assert "no sound directory" in refusal(sound)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < torch_zip.MAX_SMALL_BYTES


def test_a_pickle_of_too_many_opcodes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pickle(path, b"N" * 1000)
    monkeypatch.setattr(torch_pickle, "MAX_OPCODES", 500)
    assert "NONE (opcode 500)" in refusal(path)


@pytest.mark.parametrize("order", [b"big", b"?"])
def test_another_byte_order(path: Path, order: bytes) -> None:
    save_pickle(path, weights(WEIGHT), byteorder=order)
    assert "another byte order" in refusal(path)


def test_entries_that_say_nothing_about_tensors_are_ignored(path: Path) -> None:
    more = {"version": b"3\n", ".format_version": b"1", ".data/serialization_id": b"0" * 40}
    save_pickle(path, weights(WEIGHT), **more)
    assert list(read_all(path)) == ["weight"]


@pytest.mark.parametrize(
    "names", [["readme"], ["a/data.pkl", "b/data.pkl"], ["data.pkl"], ["a/b/data.pkl"]]
)
def test_a_zip_of_something_else(path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    assert "a zip, but no torch checkpoint" in refusal(path)


def test_more_than_four_gigabytes(path: Path) -> None:
    """Sparse: zip64 sizes and zip64 offsets, and a read beyond 4 GiB."""
    huge = 5 << 30
    views: Mapping[str, View] = {
        "huge": View(FOUR, (huge // 4096, 1024), (1024, 1), numel=huge // 4),
        "after": View(FOUR, (4,), (1,)),
    }
    items = [(tw.text(n), tw.tensor_of(v, str(i))) for i, (n, v) in enumerate(views.items())]
    with path.open("w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data/0", b"")
            info = archive.getinfo("archive/data/0")
            info.file_size = info.compress_size = huge
            archive.start_dir += huge  # where the next entry goes: a hole is left before it
            archive.writestr("archive/data/1", np.arange(4, dtype=np.float32).tobytes())
            archive.writestr("archive/data.pkl", tw.pickle(tw.plain_dict(items)))
        file.seek(huge)
        file.write(b"here")
    with closing(TorchFile(WeightFile(path))) as source:
        assert source.tensors["huge"].size_bytes == huge
        assert source.tensors["after"].offset > huge
        assert b"here" in source.read_rows("huge", huge // 4096 - 1, 1).tobytes()
        assert source.read_rows("after", 0, 1).view(np.float32).tolist() == [0, 1, 2, 3]


# Files that are none


@pytest.mark.parametrize("keep", [0.999, 0.6, 0.05])
def test_a_truncated_file(sound: Path, keep: float) -> None:
    os.truncate(sound, int(sound.stat().st_size * keep))
    assert "truncated or no zip" in refusal(sound)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", id="pickles"),
        pytest.param(b"sys_info".ljust(257, b"\0") + b"ustar\x0000", id="tar"),
    ],
)
def test_the_formats_before_zip(path: Path, head: bytes) -> None:
    path.write_bytes(head)
    message = refusal(path)
    assert "old format" in message
    assert "load it with torch and save" in message


@pytest.mark.parametrize("data", [b"", b"PK", b"GGUF" + bytes(99)])
def test_an_unknown_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert "truncated or no zip" in refusal(path)


def test_a_pointer_instead_of_weights(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:...")
    assert "only a Git-LFS pointer" in refusal(path)


def test_no_file_and_a_folder(path: Path) -> None:
    assert "cannot be read: No such file" in refusal(path)
    assert "is no regular file" in refusal(path.parent)


SMALL = WRITTEN_BY_TORCH.read_bytes()
FLIPS = st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=4)


def try_to_read(path: Path) -> str:
    """Open the file and read a few rows of each tensor: "" or why that is refused."""
    try:
        with closing(TorchFile(WeightFile(path))) as source:
            for name, tensor in source.tensors.items():
                source.read_rows(name, 0, min(tensor.n_rows, 3))
    except BadCheckpoint as error:
        return str(error)
    return ""


@given(flips=FLIPS, length=st.just(len(SMALL)) | st.integers(0, len(SMALL)))
@settings(max_examples=200, deadline=1000)
def test_damage_is_refused_or_harmless(
    flips: list[tuple[int, int]], length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(SMALL)
    for position, value in flips:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(data[:length])
    assert not (message := try_to_read(path)) or message.isprintable()
    assert message or length == len(SMALL)


with zipfile.ZipFile(WRITTEN_BY_TORCH) as _archive:
    PICKLE = _archive.read("written_by_torch/data.pkl")


@given(
    flips=st.lists(
        st.tuples(st.integers(0, len(PICKLE) - 1), st.integers(0, 255)), min_size=1, max_size=3
    )
)
@settings(max_examples=200, deadline=1000)
def test_damage_that_no_checksum_tells(
    flips: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any bytes in the pickle, with the CRC to match."""
    data = bytearray(PICKLE)
    for position, value in flips:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    with closing(TorchFile(WeightFile(WRITTEN_BY_TORCH))) as source:
        entries = {
            entry.name.removeprefix("written_by_torch/"): SMALL[entry.offset :][: entry.size_bytes]
            for entry in source.checksums[WRITTEN_BY_TORCH]
        }
    tw.write_zip(path, {"data.pkl": bytes(data), **entries})
    assert not (message := try_to_read(path)) or message.isprintable()
