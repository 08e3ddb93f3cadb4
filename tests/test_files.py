"""Files are written whole or not at all, and what fails is told in one line."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import DoesNotFit, StoreError
from fwlocal.files import (
    CACHE,
    allocated_bytes,
    check_space,
    place,
    sha256_of,
    sized,
    store_error,
    write_atomically,
)


def test_a_file_is_written_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write_atomically(path, "é")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()  # a folder is not replaced by a file
    with pytest.raises(OSError, match="taken"):
        write_atomically(path, "x")
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_text("mine")
    link.symlink_to(precious)
    write_atomically(link, "other")
    assert (precious.read_text(), link.read_text()) == ("mine", "other")


@pytest.mark.parametrize("size", [0, 1, 9 << 20])
def test_the_sha256_of_a_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(size))
    told: list[float] = []
    assert sha256_of(path, told.append) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told == sorted(told)
    assert told[-1:] == ([1.0] if size else [])


def test_a_second_name_of_the_same_bytes_or_a_copy(tmp_path: Path) -> None:
    source, linked, copied = (tmp_path / name for name in ("a", "b", "c"))
    source.write_bytes(b"model")
    place(source, linked)
    place(source, copied, copy=True)
    assert linked.samefile(source)
    assert not copied.samefile(source)
    assert copied.read_bytes() == b"model"
    for taken in (linked, copied):
        with pytest.raises(FileExistsError):
            place(source, taken, copy=taken is copied)


def test_holes_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert allocated_bytes(path) in (*range(1 << 20), 1 << 30)  # some file systems have no holes
    assert allocated_bytes(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (92_871_040, "93 MB"),
        (999_600_000, "1.0 GB"),
        (41_422_949_632, "41.4 GB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert sized(size) == text


@given(st.integers(0, 10**15))
def test_sizes_are_about_right(size: int) -> None:
    number, unit = sized(size).split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert abs(float(number) * scale - size) <= 0.51 * scale


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    check_space(folder, 1, "m:Q4_K_M")
    with pytest.raises(DoesNotFit, match=r"m:Q4_K_M needs 1000000000\.0 GB, and .* are free"):
        check_space(folder, 10**18, "m:Q4_K_M")
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENOSPC, DoesNotFit, "no room left"),
        (errno.EDQUOT, DoesNotFit, "no room left"),
        (errno.EACCES, StoreError, "make it writable"),
        (errno.EROFS, StoreError, "make it writable"),
    ],
)
def test_what_a_failed_write_is_called(number: int, kind: type[Exception], says: str) -> None:
    error = store_error(OSError(number, os.strerror(number)), "models")
    assert type(error) is kind
    assert says in str(error)
    assert str(error).startswith("models: ")
    assert "set FWLOCAL_HOME to" in str(error)
    assert "\n" not in str(error)
    cached = str(store_error(OSError(number, os.strerror(number)), "tuned", CACHE))
    assert "set FWLOCAL_CACHE to" in cached
    assert "FWLOCAL_HOME" not in cached
