"""Where an unfinished file comes from, as the work on it noted beside it.

A download keeps ``.FILE.gguf.download``, JSON: the ``identity`` of the file on the Hub (repository,
name in it, size, etag) and the ``commit``. A conversion keeps ``.FILE.gguf.journal``, whose first
line is JSON with GGUF keys of the file to come. A note that is missing or damaged is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_BYTES = 1 << 16
_SOURCE, _REVISION, _BASE = "fwlocal.source", "fwlocal.source.revision", "fwlocal.base"


@dataclass(frozen=True)
class Beginning:
    """``road`` is "download" or "convert", ``source`` owner/repo or the name of a folder or file.
    ``file`` is the name in the repository of what is downloaded, ``base`` what a delta is added to;
    "" for what there is not, or is not known."""

    road: str
    source: str
    revision: str = ""
    file: str = ""
    base: str = ""


def beginning_of(paths: Iterable[Path]) -> Beginning | None:
    """Of the level whose files are or will be ``paths``; None where nothing tells."""
    for path in paths:
        found = _of_download(path) or _of_conversion(path)
        if found is not None:
            return found
    return None


def _of_download(path: Path) -> Beginning | None:
    told = _first_object(path.with_name(f".{path.name}.download"), "")
    identity = told.get("identity")
    if not isinstance(identity, list) or len(identity) < 2:
        return None
    source, file = map(_text, identity[:2])
    commit = _text(told.get("commit"))
    return Beginning("download", source, commit, file) if source and file else None


def _of_conversion(path: Path) -> Beginning | None:
    told = _first_object(path.with_name(f".{path.name}.journal"), "\n")
    source, revision, base = (_text(told.get(key)) for key in (_SOURCE, _REVISION, _BASE))
    return Beginning("convert", source, revision, base=base) if source else None


def _first_object(path: Path, end: str) -> dict[str, Any]:
    """The JSON object at the beginning of a file, up to ``end`` ("" for all of it); {} for none."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode()
        value = json.loads(text.partition(end)[0] if end else text)
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else ""
