"""What is remembered about a stored level, in ``NAME-LEVEL.json`` beside its files.

Where it came from, under which licence, its files' sizes and hashes, when it was added and used. A
manifest is a help and never a condition: one that is missing, damaged or from the future is None.
The form is ours: an object with the fields of ``Manifest``; keys that are not known are ignored.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fwlocal.files import write_atomically

ROADS = ("download", "convert", "package", "import")
_MAX_BYTES = 1 << 20
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ManifestFile:
    """One file of the level; ``sha256`` in lower-case hex, None where it is not known."""

    name: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Manifest:
    """``road`` is how the level came here, one of ROADS, and ``source`` from where: owner/repo, a
    package, a folder or file; ``revision`` and ``licence`` are "" when not known, and so is
    ``prompt_format`` when none was named. ``added`` and ``last_used``: ISO 8601 in UTC, or ""."""

    name: str
    level: str
    files: tuple[ManifestFile, ...]
    road: str
    source: str
    revision: str = ""
    licence: str = ""
    prompt_format: str = ""
    added: str = ""
    last_used: str = ""


def manifest_path(folder: Path, level_stem: str) -> Path:
    """Where the manifest of ``level_stem`` (NAME-LEVEL) lies."""
    return folder / f"{level_stem}.json"


def read_manifest(path: Path) -> Manifest | None:
    """The manifest at ``path``; None when there is none, or anything is wrong with it."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        return None if len(content) > _MAX_BYTES else _parse(json.loads(content))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _parse(found: Any) -> Manifest:
    """Raises KeyError, TypeError or ValueError for what is no manifest."""
    if not isinstance(found, dict):
        raise TypeError
    texts = {f.name: found.get(f.name, "") for f in fields(Manifest) if f.name != "files"}
    if not all(isinstance(value, str) for value in texts.values()):
        raise TypeError
    if not (texts["name"] and texts["level"] and texts["road"] in ROADS and found["files"]):
        raise ValueError
    return Manifest(files=tuple(_parse_file(**_known(entry)) for entry in found["files"]), **texts)


def _known(entry: Any) -> dict[str, Any]:
    return {key: entry[key] for key in ("name", "size_bytes", "sha256")}


def _parse_file(name: Any, size_bytes: Any, sha256: Any) -> ManifestFile:
    if not isinstance(name, str) or not is_file_name(name):
        raise ValueError
    if type(size_bytes) is not int or size_bytes < 0:
        raise ValueError
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise ValueError
    return ManifestFile(name, size_bytes, sha256)


def is_file_name(name: str) -> bool:
    """Whether ``name`` is a plain, visible file's name that leads nowhere else on any system."""
    return bool(name) and name.isprintable() and name[0] != "." and not set(name) & set("/\\:")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Put the manifest at ``path``, whole. Raises OSError."""
    write_atomically(path, json.dumps(asdict(manifest), indent=2) + "\n")


def now() -> str:
    """This moment, as a manifest has it: ISO 8601, UTC, whole seconds."""
    return datetime.now(timezone.utc).strftime(_STAMP)


def day_of(stamp: str) -> str:
    """The date in a manifest's time, "" for none and for anything that is no time."""
    try:
        return datetime.strptime(stamp, _STAMP).date().isoformat()
    except ValueError:
        return ""
