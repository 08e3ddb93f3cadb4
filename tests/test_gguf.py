"""The header reader: what it reads, and everything that it must refuse before llama.cpp sees it."""

from __future__ import annotations

import ctypes
import struct
import time
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.errors import BadModelFile
from fwlocal.gguf import GGML_TYPES, GGUFArray, read_header
from fwlocal.llama.bindings import call, library
from tests import tiny_llama

STRING, ARRAY, U32 = 8, 9, 4


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header(
    *, version: int = 3, n_tensors: int = 0, n_kv: int = 0, rest: bytes = b"", pad: int = 4096
) -> bytes:
    """A header with its counts, then ``rest``, then zeros."""
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_kv) + rest + b"\0" * pad


def tensor(
    name: str = "t", shape: tuple[int, ...] = (32,), type_id: int = 0, offset: int = 0
) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", type_id, offset)


def refused(tmp_path: Path, data: bytes) -> str:
    """The message that a file of ``data`` is refused with; the search took under a second."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    started = time.perf_counter()
    with pytest.raises(BadModelFile) as caught:
        read_header(path)
    assert time.perf_counter() - started < 1
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_reads_what_the_gguf_package_wrote(tiny_gguf: Path) -> None:
    found = read_header(tiny_gguf)
    reference = gguf.GGUFReader(tiny_gguf)

    assert found.version == 3
    assert found.architecture == "llama"
    assert found.number("{arch}.block_count") == 2
    assert found.numbers("{arch}.attention.head_count", 2) == (4, 4)
    tokens = found.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, GGUFArray)
    assert list(tokens)[:3] == ["<unk>", "<s>", "</s>"]
    assert [(t.name, t.offset + found.data_offset, t.size_bytes) for t in found.tensors] == [
        (t.name, t.data_offset, t.n_bytes) for t in reference.tensors
    ]


def test_the_type_table_is_that_of_ggml() -> None:
    ggml = library("ggml-base")
    for type_id, (name, block, block_bytes) in GGML_TYPES.items():
        assert call(ggml, "ggml_type_name", ctypes.c_char_p, type_id).decode().upper() == name
        assert call(ggml, "ggml_blck_size", ctypes.c_int64, type_id) == block
        assert call(ggml, "ggml_type_size", ctypes.c_size_t, type_id) == block_bytes


def test_numeric_arrays_are_decoded(tiny_gguf: Path) -> None:
    scores = read_header(tiny_gguf).metadata["tokenizer.ggml.scores"]

    assert isinstance(scores, GGUFArray)
    assert list(scores) == [score for _, score, _ in tiny_llama.vocabulary()]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "only 0 bytes"),
        (b"GGUF", "only 4 bytes"),
        (b"PK\x03\x04" + b"\0" * 100, "no GGUF file"),
        (b"<html>" + b" " * 100, "no GGUF file"),
        (header(version=1), "version 1"),
        (header(version=4), "version 4"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + b"\0" * 100, "other byte order"),
        (header(n_tensors=2**62), "claims 4611686018427387904 tensors"),
        (header(n_kv=2**62), "4611686018427387904 keys"),
        (header(n_kv=1, rest=text("k") + struct.pack("<I", 99)), "unknown value type 99"),
        (header(n_kv=1, rest=struct.pack("<Q", 2**63)), "claims 9223372036854775808 bytes"),
        (header(n_kv=1, rest=text("")), "empty or a duplicate"),
        (header(n_kv=2, rest=(text("k") + struct.pack("<II", U32, 1)) * 2), "a duplicate"),
        (
            header(n_kv=1, rest=text("k") + struct.pack("<IIQ", ARRAY, U32, 2**61)),
            "claims 2305843009213693952 elements",
        ),
        (
            header(n_kv=1, rest=text("k") + struct.pack("<IIQ", ARRAY, STRING, 2**61)),
            "claims 2305843009213693952 elements",
        ),
        (
            header(n_kv=1, rest=text("k") + struct.pack("<IIQQ", ARRAY, STRING, 1, 2**40)),
            "runs past the end",
        ),
        (
            header(n_kv=1, rest=text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1)),
            "unknown type 9",
        ),
        (header(n_kv=1, rest=text("k") + struct.pack("<I", STRING), pad=2), "ends inside k"),
        (
            header(n_kv=1, rest=text("general.alignment") + struct.pack("<II", U32, 33)),
            "no power of two",
        ),
        (header(n_tensors=1, rest=tensor(shape=())), "0 dimensions"),
        (header(n_tensors=1, rest=tensor(shape=(1,) * 5)), "5 dimensions"),
        (header(n_tensors=1, rest=tensor(shape=(0,))), "impossible shape [0]"),
        (header(n_tensors=1, rest=tensor(shape=(2**40, 2**40))), "impossible shape"),
        (header(n_tensors=1, rest=tensor(type_id=5)), "unknown type 5"),
        (header(n_tensors=1, rest=tensor(shape=(33,), type_id=8)), "impossible shape [33]"),
        (header(n_tensors=1, rest=tensor(offset=7)), "lies at 7, not at 0"),
        (header(n_tensors=2, rest=tensor() + tensor(offset=128)), "two tensors are called t"),
        (header(n_tensors=1, rest=tensor(name="t" * 64)), "claims 64 bytes"),
        (header(n_tensors=1, rest=tensor(shape=(2**20,))), "truncated: 4194"),
    ],
)
def test_refuses(tmp_path: Path, data: bytes, says: str) -> None:
    assert says in refused(tmp_path, data)


def test_refuses_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="is a folder"):
        read_header(tmp_path)
    with pytest.raises(BadModelFile, match="cannot be read"):
        read_header(tmp_path / "none.gguf")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_is_read_or_refused_never_worse(
    tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(tiny_gguf.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 6000))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(bytes(whole[:end]))
    try:
        found = read_header(path)
    except BadModelFile:
        return
    last = found.tensors[-1]
    assert found.data_offset + last.offset + last.size_bytes <= end
