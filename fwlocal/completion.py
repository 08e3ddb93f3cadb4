"""What the shell offers after a TAB: models, levels, prompt formats.

A models folder or models.toml that cannot be read offers nothing: a TAB is no place for errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

import fwlocal.bash_completion  # noqa: F401 (it registers itself)
from fwlocal.errors import FwlocalError

if TYPE_CHECKING:
    from fwlocal.library import Library

Offer = tuple[str, str]  # what is offered, and what it is


def any_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of known models, and names and levels of those on this disk; else files."""
    return _matching(incomplete, _safely(_any_model)) or _files(incomplete)


def stored_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names and levels of the models on this disk; else files."""
    return _matching(incomplete, _safely(_stored)) or _files(incomplete)


def pullable_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of known models, of those on this disk that came from a repository, and of these
    repositories; after NAME: its levels."""
    name, colon, _ = incomplete.partition(":")
    if not colon:
        return _matching(incomplete, _safely(_pullable))
    offers = _safely(lambda library: _levels_of(name, library))
    return _matching(incomplete, [(f"{name}:{level}", what) for level, what in offers])


def level_name(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Levels that the converter makes, the last of those that commas separate."""
    from fwlocal.store.advice import CONVERTIBLE

    before, comma, last = incomplete.rpartition(",")
    named = {level.casefold() for level in before.split(",")}
    levels = ((level, "") for level in CONVERTIBLE if level.casefold() not in named)
    return _matching(last, levels, before=before + comma)


def format_name(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Prompt formats; for the converter, only those that it can write into a file."""
    from fwlocal.prompts import FORMAT_NAMES, FORMATS

    names = FORMATS if context.info_name == "convert" else FORMAT_NAMES
    return _matching(incomplete, ((name, "") for name in names))


def _matching(
    incomplete: str, offers: Iterable[Offer], *, before: str = ""
) -> list[CompletionItem]:
    """Those that begin so, in whatever case, each once."""
    start = incomplete.casefold()
    found = {name: what for name, what in offers if name.casefold().startswith(start)}
    return [CompletionItem(before + name, help=what or None) for name, what in found.items()]


def _files(incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _safely(offers: Callable[[Library], Iterable[Offer]]) -> list[Offer]:
    from fwlocal.library import Library

    try:
        return list(offers(Library.default()))
    except FwlocalError:
        return []


def _any_model(library: Library) -> Iterator[Offer]:
    yield from _known(library)
    yield from _stored(library)


def _known(library: Library) -> Iterator[Offer]:
    for spec in library.registry.models.values():
        yield spec.name, spec.title


def _stored(library: Library) -> Iterator[Offer]:
    from fwlocal.files import sized

    for stored in library.store.entries(library.registry):
        yield stored.name, stored.spec.title if stored.spec else "on this disk"
        yield f"{stored.name}:{stored.level}", sized(stored.size_bytes)


def _pullable(library: Library) -> Iterator[Offer]:
    yield from _known(library)
    for stored in library.store.entries(library.registry):
        source = stored.manifest.source if stored.manifest else ""
        if stored.spec is None and _is_repository(source):
            yield stored.name, f"from {source}"
            yield source, f"{stored.name} came from it"


def _is_repository(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(owner and slash and name) and not set(name) & set("/\\")


def _levels_of(name: str, library: Library) -> Iterator[Offer]:
    """What can be pulled of a known model, and what is here of any other."""
    from fwlocal.store.advice import levels_to_get

    spec = library.registry.models.get(name)
    if spec is not None:
        sizes = spec.level_sizes_gb
        for level in levels_to_get(spec):
            yield level, f"{sizes[level]:.3g} GB" if level in sizes else "converted"
        return
    for stored in library.store.entries(library.registry):
        if name in (stored.name, stored.manifest.source if stored.manifest else ""):
            yield stored.level, "on this disk"
