"""What saves work here: the prompts that are kept evaluated, and the models that draft for others.

llama.cpp's libraries are needed for both; without them there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import FwlocalError
from fwlocal.library import Library
from fwlocal.registry import ModelSpec


@dataclass(frozen=True)
class KeptPrompts:
    """The prefix cache: ``bound_bytes`` of ``n_prompts`` may be kept, 0 turns it off. ``problem``
    is what keeps it from being used, and how that is mended, None where nothing does."""

    folder: Path
    n_prompts: int
    size_bytes: int
    bound_bytes: int
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class Draft:
    """A model on this disk and the one that models.toml has drafting for it: ``found`` is its name
    with its level, None where it is not on this disk; ``problem`` says why it cannot."""

    model: str
    named: str
    found: str | None = None
    problem: str | None = None


def kept_prompts(bound_bytes: int) -> KeptPrompts | None:
    """Look at the prefix cache; None without llama.cpp's libraries."""
    try:
        from fwlocal.prefix_cache import default_folder
        from fwlocal.prefix_cache.contents import described, hindrance, size_bytes
    except FwlocalError:
        return None
    folder = default_folder()
    n_prompts = n_bytes = 0
    try:
        n_prompts, n_bytes = len(described(folder)), size_bytes(folder)
        reason = hindrance(folder)
    except FwlocalError as error:
        reason = str(error)
    what, _, fix = reason.partition("; ")
    problem = (f"no prompt is kept: {what}", fix) if bound_bytes and reason else None
    return KeptPrompts(folder, n_prompts, n_bytes, bound_bytes, problem)


def drafts(library: Library) -> tuple[Draft, ...]:
    """Of the models on this disk, those that models.toml names a draft for. Raises StoreError."""
    return tuple(_drafts(library))


def _drafts(library: Library) -> Iterator[Draft]:
    for spec in library.registry.models.values():
        if spec.draft is not None and library.store.levels(spec):
            yield _look_at(spec, spec.draft, library)


def _look_at(spec: ModelSpec, named: str, library: Library) -> Draft:
    stored = library.store.find(named, library.registry)
    if stored is None:
        return Draft(spec.name, named)
    found = f"{stored.name}:{stored.level}"
    try:
        from fwlocal.loader import find_draft, open_file

        find_draft(named, *open_file(spec.name, library), library)
    except FwlocalError as error:
        return Draft(spec.name, named, found, str(error))
    return Draft(spec.name, named, found)
