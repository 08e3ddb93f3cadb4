"""What tells one build of llama.cpp from another."""

from __future__ import annotations

import os
from pathlib import Path

from fwlocal.llama import build_info
from fwlocal.llama.build import build_id, library_files


def test_it_is_more_than_the_version() -> None:
    assert build_id().startswith(build_info())
    assert "llama" in build_id().removeprefix(build_info()), "no library's file is among it"


def test_a_library_that_was_built_again_is_another_one(tmp_path: Path) -> None:
    library = tmp_path / "libggml-cpu.so"
    library.write_bytes(b"code")
    os.utime(library, ns=(1, 1))
    before = library_files(tmp_path)

    os.utime(library, ns=(2, 2))
    touched = library_files(tmp_path)
    (tmp_path / "notes").write_text("mine")
    assert library_files(tmp_path) == touched
    library.write_bytes(b"other code")
    os.utime(library, ns=(2, 2))

    assert len({before, touched, library_files(tmp_path)}) == 3


def test_a_folder_that_is_gone_has_none(tmp_path: Path) -> None:
    assert not library_files(tmp_path / "gone")
