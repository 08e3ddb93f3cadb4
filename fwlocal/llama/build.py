"""Which llama.cpp computes here, to the build: another one may round otherwise."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache
from pathlib import Path

from fwlocal.llama.bindings import call, lib, library
from fwlocal.llama.devices import build_info

_PARTS = ("*llama*", "*ggml*")  # the files of its libraries, wherever they lie


@cache
def build_id() -> str:
    """``build_info``, which a build of the next day shares, with the commit, and the sizes and
    times of the library files: a build of the same commit by another compiler is another one."""
    return f"{build_info()} {_commit()} {library_files(Path(lib._lib._name).parent)}"


def library_files(folder: Path) -> str:
    """Name, size and time of change of the libraries' files in a folder, those that can be read."""
    found = []
    for path in sorted({path for part in _PARTS for path in folder.glob(part)}):
        with contextlib.suppress(OSError):
            facts = path.stat()
            found.append(f"{path.name}:{facts.st_size}:{facts.st_mtime_ns}")
    return " ".join(found)


def _commit() -> str:
    """ggml's, "" where it does not tell."""
    try:
        text = call(library("ggml-base"), "ggml_commit", ctypes.c_char_p)
    except (AttributeError, OSError):
        return ""
    return (text or b"").decode("utf-8", "replace")
