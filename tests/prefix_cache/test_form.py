"""An entry is read back as it was written, or not at all."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.prefix_cache.folder import entry_name
from fwlocal.prefix_cache.form import (
    FORMAT,
    MAX_NAME_BYTES,
    BadEntry,
    GivenUp,
    Header,
    n_common,
    packed_tokens,
    read_header,
    read_state,
    short_name,
    write_entry,
)
from tests.prefix_cache.kept import SETTING, Machine

TOKENS = list(range(300))
ids = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40)


def never(*_: object) -> bool:
    return False


def written(path: Path, header: Header, state: Any) -> bytes:
    with path.open("wb") as file:
        write_entry(file, header, state, never)
    return path.read_bytes()


def read(path: Path) -> tuple[Header, bytes]:
    with path.open("rb", buffering=0) as file:
        header = read_header(file)
        return header, bytes(read_state(file, header, never))


@settings(max_examples=50)
@given(
    st.binary(min_size=32, max_size=32),
    st.text(max_size=400),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=300),
    st.floats(0, 1e9),
    st.binary(min_size=1, max_size=2000),
)
def test_there_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    key: bytes,
    model: str,
    tokens: list[int],
    prefill_s: float,
    state: bytes,
) -> None:
    path = tmp_path_factory.getbasetemp() / "entry"
    header = Header(key, short_name(model), packed_tokens(tokens), prefill_s, len(state))

    size = len(written(path, header, state))
    found, data = read(path)

    assert size == header.entry_bytes == header.header_bytes + len(state)
    assert (found.key, found.model, found.tokens) == (key, short_name(model), header.tokens)
    assert (found.prefill_s, data) == (prefill_s, state)
    assert found.state_sha256 == hashlib.sha256(state).digest()


def test_a_prompt_that_is_longer_than_the_first_read(tmp_path: Path) -> None:
    tokens = packed_tokens(range(50_000))
    written(tmp_path / "entry", Header(SETTING.key, "m", tokens, 1.0, 3), b"abc")

    header, state = read(tmp_path / "entry")

    assert (header.tokens, state) == (tokens, b"abc")


@pytest.mark.parametrize("name", ["é" * MAX_NAME_BYTES, "a" + "é" * MAX_NAME_BYTES, "\udcff"])
def test_a_long_or_odd_name_is_cut(tmp_path: Path, name: str) -> None:
    assert len(short_name(name).encode()) <= MAX_NAME_BYTES
    header = Header(SETTING.key, short_name(name), packed_tokens(TOKENS), 1.0, 1)
    written(tmp_path / "entry", header, b"a")

    assert read(tmp_path / "entry")[0].model == short_name(name)


@given(ids, ids, ids)
def test_common_tokens(common: list[int], left: list[int], right: list[int]) -> None:
    a, b = common + left, common + right
    expected = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )

    assert n_common(packed_tokens(a), packed_tokens(b)) == expected


class Spoilt:
    """An entry with damage in it: what a cache finds of its prompt."""

    def __init__(self, root: Path) -> None:
        self.machine = Machine(root)
        self.machine.put(TOKENS, size_bytes=400)
        (self.path,) = self.machine.entries
        self.whole = self.path.read_bytes()

    def common(self, data: bytes) -> int:
        """How many tokens are loaded with ``data`` in place of the entry."""
        self.path.write_bytes(data)
        return Machine(self.path.parent).common(TOKENS)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Spoilt:
    """An entry that examples damage again and again."""
    return Spoilt(tmp_path_factory.mktemp("spoilt"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_bit_that_is_wrong_anywhere_is_noticed(spoilt: Spoilt, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(spoilt.whole) - 1))
    bit = data.draw(st.integers(0, 7))
    wrong = bytearray(spoilt.whole)
    wrong[place] ^= 1 << bit

    assert spoilt.common(bytes(wrong)) == 0
    assert not spoilt.path.exists(), "it is removed"
    assert spoilt.common(spoilt.whole) == len(TOKENS) - 1


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_cut_or_goes_on_or_is_overwritten_is_noticed(
    spoilt: Spoilt, data: st.DataObject
) -> None:
    size = len(spoilt.whole)
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    between = data.draw(st.binary(max_size=600))
    wrong = spoilt.whole[:start] + between + spoilt.whole[end:]
    if wrong == spoilt.whole:
        return

    assert spoilt.common(wrong) == 0
    assert not spoilt.path.exists()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_nonsense_is_noticed(spoilt: Spoilt, data: bytes) -> None:
    assert spoilt.common(data) == 0
    assert not spoilt.path.exists()


def sealed(entry: bytes, start: int, value: int, width: int) -> bytes:
    """An entry with another number in its header, under a hash that says that it must be so."""
    size = int.from_bytes(entry[12:16], "little")
    content = entry[:start] + value.to_bytes(width, "little") + entry[start + width : size - 32]
    return content + hashlib.sha256(content).digest() + entry[size:]


@pytest.mark.parametrize(("start", "width"), [(12, 4), (16, 8), (24, 4), (28, 4)])
def test_every_size_that_lies_is_noticed_before_memory_is_taken(
    spoilt: Spoilt, start: int, width: int
) -> None:
    right = int.from_bytes(spoilt.whole[start : start + width], "little")
    assert spoilt.common(sealed(spoilt.whole, start, right, width)) == len(TOKENS) - 1

    for value in (0, 1, right - 1, right + 1, 2 ** (8 * width) - 1):
        assert spoilt.common(sealed(spoilt.whole, start, value, width)) == 0
        assert not spoilt.path.exists()


def test_nothing_may_follow(spoilt: Spoilt) -> None:
    assert spoilt.common(spoilt.whole + b"\0") == 0
    assert spoilt.common(spoilt.whole[:-1]) == 0
    assert not spoilt.path.exists()


@pytest.mark.parametrize("version", [0, FORMAT + 1])
def test_another_format_is_removed(spoilt: Spoilt, version: int) -> None:
    assert spoilt.common(sealed(spoilt.whole, 8, FORMAT, 4)) == len(TOKENS) - 1

    assert spoilt.common(sealed(spoilt.whole, 8, version, 4)) == 0
    assert not spoilt.path.exists()


def test_an_entry_of_another_setting_under_this_ones_name(spoilt: Spoilt) -> None:
    spoilt.path.write_bytes(spoilt.whole)
    foreign = replace(SETTING, fingerprint="cd" * 32)
    spoilt.path.rename(spoilt.path.with_name(entry_name(foreign.key, packed_tokens(TOKENS))))

    assert Machine(spoilt.path.parent).find(TOKENS, foreign) is None


def test_an_entry_that_is_damaged_after_it_was_found(spoilt: Spoilt) -> None:
    spoilt.path.write_bytes(spoilt.whole)
    hit = spoilt.machine.find(TOKENS)
    assert hit is not None
    spoilt.path.write_bytes(spoilt.whole[:-1] + bytes([spoilt.whole[-1] ^ 1]))

    assert spoilt.machine.cache.load(hit) is None
    assert not spoilt.path.exists()


def test_another_entry_in_the_place_of_the_found_one(spoilt: Spoilt, tmp_path: Path) -> None:
    spoilt.path.write_bytes(spoilt.whole)
    hit = spoilt.machine.find(TOKENS)
    assert hit is not None
    header = Header(SETTING.key, "m", packed_tokens(TOKENS[::-1]), 1.0, 3)
    written(spoilt.path, header, b"abc")

    assert spoilt.machine.cache.load(hit) is None


def test_the_header_comes_last(tmp_path: Path) -> None:
    """A writer that is killed leaves a file that nobody takes for an entry."""
    asked = iter([False, True])
    header = Header(SETTING.key, "m", packed_tokens(TOKENS), 1.0, 9 << 20)

    with (tmp_path / "entry").open("wb") as file, pytest.raises(GivenUp):
        write_entry(file, header, bytes(9 << 20), lambda: next(asked))

    assert (tmp_path / "entry").read_bytes()[: header.header_bytes].strip(b"\0") == b""
    with (tmp_path / "entry").open("rb") as file, pytest.raises(BadEntry):
        read_header(file)


def test_a_full_disk_is_told() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    header = Header(SETTING.key, "m", packed_tokens(TOKENS), 1.0, 3)
    with pytest.raises(OSError, match="No space"):
        write_entry(Full(), header, b"abc", never)


@pytest.mark.parametrize(
    "header",
    [
        Header(SETTING.key, "m", b"", 1.0, 5),
        Header(SETTING.key, "m", packed_tokens(TOKENS), float("nan"), 5),
        Header(SETTING.key, "m", packed_tokens(TOKENS), float("inf"), 5),
        Header(SETTING.key, "m", packed_tokens(TOKENS), -1.0, 5),
    ],
)
def test_an_entry_that_can_save_nothing(tmp_path: Path, header: Header) -> None:
    content = written(tmp_path / "entry", header, b"state")

    assert content
    with pytest.raises(BadEntry, match="it saves nothing"):
        read(tmp_path / "entry")
