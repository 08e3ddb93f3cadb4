"""A file that is no longer what it was is found out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fwlocal.bench.unchanged import check_unchanged, stamps_of
from fwlocal.errors import BadModelFile


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b".")


def _touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _replaced(path: Path) -> None:
    stat = path.stat()
    fresh = path.with_name("fresh")
    fresh.write_bytes(path.read_bytes())
    os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fresh.replace(path)


@pytest.mark.parametrize("change", [_longer, _touched, _replaced])
@pytest.mark.parametrize("part", [0, 1])
def test_any_part_that_changes_is_told(tmp_path: Path, change: object, part: int) -> None:
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for path in parts:
        path.write_bytes(b"GGUF")
    stamps = stamps_of(parts[0])
    check_unchanged(parts[0], stamps)

    change(parts[part])  # type: ignore[operator]
    with pytest.raises(BadModelFile, match="changed while it was measured"):
        check_unchanged(parts[0], stamps)


def test_one_that_is_gone_is_told_and_nothing_is_held_against_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="cannot be read any more"):
        stamps_of(tmp_path / "none.gguf")
    check_unchanged(tmp_path / "none.gguf", ())
