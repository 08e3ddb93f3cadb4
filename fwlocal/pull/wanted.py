"""What a user's MODEL means to ``fwlocal pull``. Nobody is asked; the store is only looked at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from fwlocal.errors import UsageError
from fwlocal.hub.listing import NO_LEVEL
from fwlocal.levels import level_in
from fwlocal.registry import ModelSpec, Registry
from fwlocal.store import Store
from fwlocal.store.importing import folder_name


@dataclass(frozen=True)
class Wanted:
    """A known model (``repo``: the repository of it that was named), or any repository (``file``:
    one GGUF in it)."""

    spec: ModelSpec | None
    repo: str | None = None
    file: str | None = None
    levels: tuple[str, ...] = ()
    revision: str = ""
    from_source: bool = False
    name: str = ""


def understand(
    model: str,
    levels: Sequence[str],
    registry: Registry,
    store: Store,
    *,
    revision: str = "",
    from_source: bool = False,
    name: str = "",
) -> Wanted:
    """MODEL[:LEVEL], with what was named beside it. Raises UsageError, ModelNotFound."""
    path, level, own_revision = _taken_apart(model)
    in_model = [one for one in re.split(r"[,\s]+", level) if one]
    named = tuple(dict.fromkeys(one.upper() for one in (*in_model, *levels)))
    if in_model and set(named) != {one.upper() for one in in_model}:
        raise UsageError(f"{model}: names one level, and --quant another; leave one of them out")
    revision = revision or own_revision
    if path in registry.models or "/" not in path:
        return _called(path, named, revision, registry, store, from_source, name)
    owner, last, *rest = path.split("/")
    repo, file = f"{owner}/{last}", "/".join(rest) or None
    if file and not file.lower().endswith(".gguf"):
        raise UsageError(f"{model}: must be owner/repo, owner/repo:LEVEL or owner/repo/FILE.gguf")
    if file and (named or from_source):
        also = named[0] if named else "--from-source"
        raise UsageError(f"{model}: the file has its own level; leave {also} out")
    spec = _published_in(repo, registry)
    if spec is not None and file is not None:
        named, file = _known_file(spec, file)
    if spec is None:
        name = _checked(name, registry)
    elif name:
        raise UsageError(f"{spec.name} is a known model and keeps its name; leave --name out")
    return Wanted(spec, repo, file, named, revision, from_source, name)


def _taken_apart(model: str) -> tuple[str, str, str]:
    """``owner/repo[/FILE]@revision:LEVEL``, or the address of a page or file of it."""
    if "://" in model:
        parts = [unquote(part) for part in urlsplit(model).path.split("/") if part]
        if len(parts) > 3 and parts[2] in ("blob", "resolve", "tree"):
            return "/".join(parts[:2] + parts[4:]), "", parts[3]
        return "/".join(parts), "", ""
    path, _, level = model.partition(":")
    path, _, revision = path.partition("@")
    return path, level, revision


def _called(
    path: str,
    levels: tuple[str, ...],
    revision: str,
    registry: Registry,
    store: Store,
    from_source: bool,
    name: str,
) -> Wanted:
    """A known model's name, or that of one in the store, which says where it came from."""
    if path not in registry.models:
        for entry in store.entries(registry):
            source = entry.manifest.source if entry.manifest else ""
            if entry.name.casefold() == path.casefold() and source.count("/") == 1:
                return Wanted(None, source, None, levels, revision, from_source, entry.name)
    spec = registry.get(path)
    if name:
        raise UsageError(f"{spec.name} is a known model and keeps its name; leave --name out")
    return Wanted(spec, None, None, levels, revision, from_source)


def _checked(name: str, registry: Registry) -> str:
    """A name for the store that the user chose."""
    if name and folder_name(name) != name:
        raise UsageError(f"--name {name}: cannot be a folder's name; try {folder_name(name)!r}")
    if name in registry.models:
        raise UsageError(f"--name {name}: is a known model, and this is another; choose another")
    return name


def _published_in(repo: str, registry: Registry) -> ModelSpec | None:
    """The known model whose GGUFs or checkpoint a repository holds."""
    for spec in registry.models.values():
        if spec.gguf is not None and spec.gguf.repo.casefold() == repo.casefold():
            return spec
    return registry.by_checkpoint(repo)


def _known_file(spec: ModelSpec, file: str) -> tuple[tuple[str, ...], str | None]:
    """The level that a file of a known model is; the file itself where it is not on its list."""
    for level, published in (spec.gguf.levels if spec.gguf else {}).items():
        if published.file == file:
            return (level,), None
    return (level_in(file) or NO_LEVEL,), file
