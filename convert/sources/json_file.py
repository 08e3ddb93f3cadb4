"""A checkpoint's JSON files, read with distrust: bounded, no duplicate keys, a BOM forgiven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fwlocal.errors import BadCheckpoint

LIMIT_BYTES = 64 << 20


def read_json(path: Path, limit_bytes: int = LIMIT_BYTES) -> Any:
    """The value in the file at ``path``. Raises BadCheckpoint naming what is wrong with it."""
    if path.exists() and not path.is_file():
        raise BadCheckpoint(f"{path}: is no regular file; copy it from the model's repository")
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise BadCheckpoint(
            f"{path}: cannot be read ({error.strerror or error}); copy it from the model's "
            "repository"
        ) from error
    if len(data) > limit_bytes:
        raise BadCheckpoint(
            f"{path}: over {limit_bytes >> 20} MB, no sound JSON file of a model; fetch or copy "
            "it again"
        )
    return parse_json(data, path)


def parse_json(data: bytes, where: Path | str) -> Any:
    """The value that ``data`` spells; ``where`` names it in errors (BadCheckpoint)."""
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_duplicates)
    except _DuplicateKey as error:
        raise BadCheckpoint(
            f"{where}: the key {error.args[0]!r} stands there twice; fetch or copy the file again"
        ) from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise BadCheckpoint(
            f"{where}: no valid JSON ({error}); fetch or copy the file again"
        ) from None


class _DuplicateKey(Exception):
    """A JSON object names a key twice."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _DuplicateKey(key)
        result[key] = value
    return result
