"""``fwlocal list``: every level on this disk, whole or not, for programs and for people.

The weights are not read, and only headers are opened: a file that is damaged further on is listed
like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fwlocal.errors import BadModelFile
from fwlocal.files import sized
from fwlocal.gguf import GGUFHeader
from fwlocal.inspection import bits_per_weight
from fwlocal.registry import ModelSpec, Registry
from fwlocal.store import Store, StoredModel, Unfinished
from fwlocal.store.manifest import day_of
from fwlocal.store.unfinished import command, in_words
from fwlocal.tables import Column, Table
from fwlocal.terminal import inert
from fwlocal.whole import read_whole

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = (
    Column("MODEL"),
    Column("LEVEL"),
    Column("SIZE", right=True),
    Column("BITS", right=True, left_out=3),
    Column("ADDED", left_out=2),
    Column("USED", left_out=4),
    Column("SOURCE", folds=True, left_out=1),
)


def describe(store: Store, registry: Registry) -> list[dict[str, Any]]:
    """Every level on this disk as plain data, for ``--json``. Sizes in bytes, times in UTC, None
    for what is not known."""
    whole = [_describe(stored) for stored in store.entries(registry)]
    begun = store.unfinished(registry)
    return whole + [_describe_unfinished(f, registry.models.get(f.name)) for f in begun]


def _describe(stored: StoredModel) -> dict[str, Any]:
    manifest, header = stored.manifest, _header(stored)
    return {
        **stored.as_data(),
        "source": _source(stored, header) or None,
        "state": "whole",
        "bits_per_weight": round(bits_per_weight(header), 3) if header else None,
        "added": (manifest.added if manifest else "") or None,
        "last_used": (manifest.last_used if manifest else "") or None,
        "road": manifest.road if manifest else None,
        "sha256": stored.sha256,
    }


def _describe_unfinished(found: Unfinished, spec: ModelSpec | None) -> dict[str, Any]:
    """``command`` goes on with it, or brings it back."""
    origin = found.beginning or found.manifest
    return {
        "model": found.name,
        "level": found.level,
        "path": str(found.paths[0]),
        "files": [str(path) for path in found.paths],
        "size_bytes": found.size_bytes,
        "source": (origin.source if origin else "") or None,
        "revision": (origin.revision if origin else "") or None,
        "licence": (spec.licence.name if spec else "") or None,
        "state": "incomplete" if found.missing else "unfinished",
        "road": origin.road if origin else None,
        "missing": [str(path) for path in found.missing],
        "command": command(found, spec) or None,
    }


def _header(stored: StoredModel) -> GGUFHeader | None:
    """None for a file that is damaged."""
    try:
        return read_whole(stored.path)
    except BadModelFile:
        return None


def _source(stored: StoredModel, header: GGUFHeader | None) -> str:
    """By the manifest, else as our converter wrote it into the file."""
    if stored.manifest is not None:
        return stored.manifest.source
    return (header.text("fwlocal.source") if header else None) or ""


def show(store: Store, registry: Registry, console: Console) -> bool:
    """The same for people, with a last line on all of it where the console is a terminal; whether
    there was anything."""
    from rich.text import Text

    entries, begun = store.entries(registry), store.unfinished(registry)
    if entries:
        Table(COLUMNS, [_cells(stored) for stored in entries]).show(console)
    for found in begun:
        line = inert(in_words(found, registry.models.get(found.name)))
        console.print(Text(line, style="dim"), soft_wrap=True)
    if console.is_terminal and (entries or begun):
        console.print(Text(_total(entries, begun), style="dim"), soft_wrap=True)
    return bool(entries or begun)


def _total(entries: Sequence[StoredModel], begun: Sequence[Unfinished]) -> str:
    levels = f"{len(entries)} level{'s' if len(entries) != 1 else ''}"
    more = f", {len(begun)} not whole" if begun else ""
    size_bytes = sum(m.size_bytes for m in entries) + sum(f.size_bytes for f in begun)
    return f"{levels}{more}: {sized(size_bytes)}"


def _cells(stored: StoredModel) -> tuple[str, ...]:
    manifest, header = stored.manifest, _header(stored)
    return (
        stored.name,
        stored.level,
        sized(stored.size_bytes),
        f"{bits_per_weight(header):.2f}" if header else "damaged",
        (day_of(manifest.added) if manifest else _day_of_file(stored)) or "-",
        (day_of(manifest.last_used) if manifest else "") or "-",
        _source(stored, header) or "-",
    )


def _day_of_file(stored: StoredModel) -> str:
    """When a file that came by itself was last written."""
    try:
        seconds = stored.path.stat().st_mtime
        return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()
    except (OSError, OverflowError, ValueError):  # a clock that was far off
        return ""
