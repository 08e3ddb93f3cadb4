"""Which file a user's MODEL means: a path, ``NAME[:LEVEL]``, or ``owner/repo[:LEVEL]``.

What is not on this disk is told with the command that brings it.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable
from pathlib import Path

from fwlocal import splits
from fwlocal.errors import ModelNotFound, StoreError
from fwlocal.registry import Registry
from fwlocal.store.advice import how_to_get, published_level
from fwlocal.store.models import ModelFile, Store, StoredModel, Unfinished, pick
from fwlocal.store.unfinished import in_words


def looks_like_path(model: str) -> bool:
    """Whether MODEL is meant as a file: it ends in .gguf, is one, or is written as a path."""
    return (
        model.lower().endswith(".gguf")
        or model.startswith((".", "/", "~", "\\"))
        or Path(model).is_file()
    )


def locate(model: str, registry: Registry, store: Store) -> ModelFile:
    """What MODEL means: a path to a .gguf, ``NAME[:LEVEL]`` of the store or the registry, or
    ``owner/repo[:LEVEL]`` that is in the store.

    The file of a registry model need not be there yet: see ``fwlocal.loader``. Raises
    ModelNotFound, offering the nearest names or saying how to get the file.
    """
    if model not in registry.models and looks_like_path(model):
        path = Path(model).expanduser()
        if not path.exists():
            raise ModelNotFound(f"{model}: no such file")
        return _known_file(path, registry, store)
    name, _, level = model.partition(":")
    if "/" in name:
        return _of_repository(name, level, registry, store)
    return _named(name, level, registry, store)


def _known_file(path: Path, registry: Registry, store: Store) -> ModelFile:
    """A path, with what is known of it if it is a stored model or bears a published name; of a
    split model, any part's name means the first."""
    first = splits.parts_of(path)[0]
    path = first if first.is_file() else path
    with contextlib.suppress(StoreError):  # a file elsewhere needs no store
        for stored in store.entries(registry):
            if stored.path == path or (stored.path.exists() and stored.path.samefile(path)):
                return _model_file(stored, path)
    published = registry.by_file_name(path.name)
    return ModelFile(published.name if published else path.stem, path, published)


def _of_repository(repo: str, level: str, registry: Registry, store: Store) -> ModelFile:
    """What is in the store from a repository."""
    ours = [
        stored
        for stored in store.entries(registry)
        if stored.manifest and stored.manifest.source.casefold() == repo.casefold()
    ]
    found = pick(ours, level or None)
    if found is None:
        wanted = f"{repo}:{level}" if level else repo
        begun = [
            b for b in store.unfinished(registry) if _source_of(b).casefold() == repo.casefold()
        ]
        _refuse_unfinished(begun, level, registry)
        raise ModelNotFound(f"{wanted} is not on this disk; get it with `fwlocal pull {wanted}`")
    return _model_file(found, found.path)


def _named(name: str, level: str, registry: Registry, store: Store) -> ModelFile:
    if name not in registry.models:
        name = _stored_name(name, registry, store)
    stored = store.find(name, registry, level or None)
    if stored is not None:
        return _model_file(stored, stored.path)
    spec = registry.models.get(name)
    wanted = published_level(spec, level or spec.default_level) if spec else level
    if spec is not None and spec.package is not None and wanted == spec.default_level:
        path = store.path(spec.name, wanted)  # whoever opens it fetches it
        return ModelFile(spec.name, path, spec, wanted, spec.package.sha256)
    begun = [found for found in store.unfinished(registry) if found.name == name]
    _refuse_unfinished(begun, level, registry)
    if spec is None:
        raise ModelNotFound(_no_level(name, level, registry, store))
    raise ModelNotFound(how_to_get(spec, wanted))


def _source_of(begun: Unfinished) -> str:
    return begun.beginning.source if begun.beginning else ""


def _refuse_unfinished(begun: Iterable[Unfinished], level: str, registry: Registry) -> None:
    """Raise ModelNotFound if one of these is the level asked for, or any where none is."""
    for found in begun:
        if level.casefold() in ("", found.level.casefold()):
            raise ModelNotFound(in_words(found, registry.models.get(found.name)))


def _stored_name(name: str, registry: Registry, store: Store) -> str:
    """The folder of the store that ``name`` means, in whatever case. Raises ModelNotFound."""
    names = store.names()
    if name in names:
        return name
    found = [known for known in names if known.casefold() == name.casefold()]
    if len(found) == 1:
        return found[0]
    near = difflib.get_close_matches(name, dict.fromkeys([*registry.models, *names]), n=3)
    offer = f"did you mean {' or '.join(near)}? " if near else ""
    raise ModelNotFound(
        f"no model is called {name!r}; {offer}`fwlocal models` and `fwlocal list` name them, and a "
        "path to a .gguf does as well"
    )


def _no_level(name: str, level: str, registry: Registry, store: Store) -> str:
    levels = ", ".join(stored.level for stored in store.levels_of(name, registry))
    if levels:
        return f"{name} has no level {level!r} on this disk; there is {levels}"
    return f"{name}: nothing of it is whole on this disk; `fwlocal list` shows what there is"


def _model_file(stored: StoredModel, path: Path) -> ModelFile:
    prompt_format = stored.manifest.prompt_format if stored.manifest else ""
    return ModelFile(
        stored.name, path, stored.spec, stored.level, stored.sha256, prompt_format or None
    )
