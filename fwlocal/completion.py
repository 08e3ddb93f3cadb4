"""What the shell offers after a TAB where a MODEL is expected: names and levels.

A models folder or models.toml that cannot be read offers nothing: a TAB is no place for errors.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from fwlocal.errors import FwlocalError


def any_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of known models, and names and levels of those on this disk; else files."""
    return _matching(incomplete, stored_only=False)


def stored_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names and levels of the models on this disk; else files."""
    return _matching(incomplete, stored_only=True)


def _matching(incomplete: str, *, stored_only: bool) -> list[CompletionItem]:
    found: dict[str, str] = {}
    try:
        found.update(_candidates(stored_only))
    except FwlocalError:
        found.clear()
    items = [CompletionItem(n, help=h) for n, h in found.items() if n.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


def _candidates(stored_only: bool) -> Iterator[tuple[str, str]]:
    from fwlocal.files import sized
    from fwlocal.library import Library

    library = Library.default()
    for spec in () if stored_only else library.registry.models.values():
        yield spec.name, spec.title
    for stored in library.store.entries(library.registry):
        yield stored.name, stored.spec.title if stored.spec else "on this disk"
        yield f"{stored.name}:{stored.level}", sized(stored.size_bytes)
