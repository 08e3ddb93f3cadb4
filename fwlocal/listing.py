"""``fwlocal list``: every level on this disk, whole or not, for programs and for people.

The weights are not read, and only headers are opened: a file that is damaged further on is listed
like any other.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fwlocal.errors import BadModelFile
from fwlocal.files import sized
from fwlocal.gguf import GGUFHeader
from fwlocal.inspection import bits_per_weight
from fwlocal.locks import holder_of
from fwlocal.registry import Registry
from fwlocal.store import Store, StoredModel, Unfinished
from fwlocal.store.manifest import day_of
from fwlocal.terminal import inert
from fwlocal.whole import read_whole

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

HEADINGS = ("MODEL", "LEVEL", "SIZE", "BITS", "ADDED", "USED", "SOURCE")
LEFT_OUT_FIRST = ("SOURCE", "ADDED", "BITS", "USED")  # on a narrow terminal
MIN_SOURCE = 16  # columns; it may be folded


def describe(store: Store, registry: Registry) -> list[dict[str, Any]]:
    """Every level on this disk as plain data, for ``--json``. Sizes in bytes, times in UTC."""
    whole = [_describe(stored) for stored in store.entries(registry)]
    return whole + [_describe_unfinished(found) for found in store.unfinished(registry)]


def _describe(stored: StoredModel) -> dict[str, Any]:
    manifest, header = stored.manifest, _header(stored)
    return {
        "name": stored.name,
        "level": stored.level,
        "state": "whole",
        "size_bytes": stored.size_bytes,
        "bits_per_weight": round(bits_per_weight(header), 3) if header else None,
        "added": manifest.added if manifest else "",
        "last_used": manifest.last_used if manifest else "",
        "road": manifest.road if manifest else "",
        "source": _source(stored, header),
        "revision": manifest.revision if manifest else "",
        "licence": licence_of(stored),
        "sha256": stored.sha256,
        "files": [str(path) for path in stored.files],
    }


def _describe_unfinished(found: Unfinished) -> dict[str, Any]:
    return {
        "name": found.name,
        "level": found.level,
        "state": "incomplete" if found.missing else "unfinished",
        "size_bytes": found.size_bytes,
        "missing": [str(path) for path in found.missing],
        "files": [str(path) for path in found.paths],
    }


def licence_of(stored: StoredModel) -> str:
    """By its manifest, else by models.toml; "" where it is not known."""
    known = stored.manifest.licence if stored.manifest else ""
    return known or (stored.spec.licence.name if stored.spec else "")


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
    """The same for people, as wide as the console; whether there was anything."""
    from rich.text import Text

    entries, unfinished = store.entries(registry), store.unfinished(registry)
    rows = [_cells(stored) for stored in entries]
    if rows:
        console.print(table(rows, console))
    for found in unfinished:
        console.print(Text(_unfinished_line(found), style="dim"))
    return bool(rows or unfinished)


def _cells(stored: StoredModel) -> dict[str, str]:
    manifest, header = stored.manifest, _header(stored)
    return {
        "MODEL": stored.name,
        "LEVEL": stored.level,
        "SIZE": sized(stored.size_bytes),
        "BITS": f"{bits_per_weight(header):.2f}" if header else "damaged",
        "ADDED": (day_of(manifest.added) if manifest else _day_of_file(stored)) or "-",
        "USED": (day_of(manifest.last_used) if manifest else "") or "-",
        "SOURCE": inert(_source(stored, header)) or "-",
    }


def _day_of_file(stored: StoredModel) -> str:
    """When a file that came by itself was last written."""
    try:
        seconds = stored.path.stat().st_mtime
        return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()
    except (OSError, OverflowError, ValueError):  # a clock that was far off
        return ""


def table(rows: list[dict[str, str]], console: Console) -> Table:
    """Of ``rows`` by heading, as many columns as the console is wide for."""
    widths = {h: max(len(h), *(len(row[h]) for row in rows)) for h in HEADINGS}
    widths["SOURCE"] = min(widths["SOURCE"], MIN_SOURCE)
    shown = list(HEADINGS)
    for heading in LEFT_OUT_FIRST:
        if sum(widths[h] + 2 for h in shown) - 2 > console.width:
            shown.remove(heading)
    return _grid(rows, shown)


def _grid(rows: list[dict[str, str]], shown: list[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in shown:
        right = heading in ("SIZE", "BITS")
        folds = heading in ("MODEL", "LEVEL", "SOURCE")
        grid.add_column(
            heading,
            overflow="fold",
            no_wrap=not folds,
            justify="right" if right else "left",
        )
    for row in rows:
        style = {"MODEL": "bold"}
        grid.add_row(*(Text(row[heading], style=style.get(heading, "")) for heading in shown))
    return grid


def _unfinished_line(found: Unfinished) -> str:
    what = f"{found.name}:{found.level}: {sized(found.size_bytes)} so far"
    if found.missing:
        return f"{what}, incomplete: {found.missing[0].name} is missing"
    holders = filter(None, map(holder_of, found.paths))
    holder = next(holders, None)
    return f"{what}, {f'{holder} now' if holder else 'unfinished'}"
