"""What to say of a level that is not whole: how far it is, who is at it, which command goes on."""

from __future__ import annotations

from fwlocal.files import sized
from fwlocal.locks import holder_of
from fwlocal.registry import ModelSpec
from fwlocal.store.advice import way_back, way_on
from fwlocal.store.models import Unfinished


def command(found: Unfinished, spec: ModelSpec | None) -> str:
    """The command that makes it whole, "" where nothing tells from where it came."""
    if found.missing:
        return way_back(found.name, found.level, spec, found.manifest)
    return way_on(found.name, found.level, spec, found.beginning, found.paths[0].parent)


def in_words(found: Unfinished, spec: ModelSpec | None) -> str:
    """One line about it, its name first."""
    what = f"{found.name}:{found.level}: {sized(found.size_bytes)} so far"
    way = command(found, spec)
    if found.missing:
        lost = found.missing[0].name
        return f"{what}, incomplete: {lost} is missing; put it there, or get it with `{way}`"
    holder = next(filter(None, map(holder_of, found.paths)), None)
    if holder is not None:
        return f"{what}, {holder} now"
    if way:
        return f"{what}, unfinished; go on with `{way}`"
    return f"{what}, unfinished; remove it with `fwlocal rm {found.name}:{found.level}`"
