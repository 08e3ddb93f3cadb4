"""``fwlocal rm``: levels of the store and all that lies beside them, removed under their locks.

Nothing outside the store is ever removed. Asking the user is for others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import ModelNotFound, UsageError
from fwlocal.files import store_error, sync_folder
from fwlocal.locks import held
from fwlocal.registry import Registry
from fwlocal.store import Store, StoredModel, Unfinished, looks_like_path
from fwlocal.store.shelf import beside


@dataclass(frozen=True)
class Doomed:
    """One level to be removed: ``paths`` are the names of its files, there or still to come."""

    name: str
    level: str
    paths: tuple[Path, ...]
    manifest_path: Path
    size_bytes: int


def doomed(model: str, registry: Registry, store: Store) -> list[Doomed]:
    """What ``rm MODEL`` means: one level, or with no level named every one of the model's.

    MODEL is NAME[:LEVEL], owner/repo[:LEVEL], or the path of a file in the store. Raises
    ModelNotFound for nothing at all, UsageError for a path outside the store.
    """
    whole = store.entries(registry)
    all_there: list[StoredModel | Unfinished] = [*whole, *store.unfinished(registry)]
    if model not in registry.models and looks_like_path(model):
        chosen = [found for found in all_there if _has_path(found, model)]
        if not chosen:
            raise UsageError(
                f"{model}: is not in the models folder ({store.root}), and only what is there is "
                "removed"
            )
    else:
        chosen = [found for found in all_there if _is_called(found, model)]
        if not chosen:
            raise ModelNotFound(f"{model} is not on this disk; `fwlocal list` shows what is")
    return _merged(chosen, store)


def _has_path(found: StoredModel | Unfinished, model: str) -> bool:
    """Whether it has a file of that very name; another name of the same bytes is none of it."""
    path = Path(model).expanduser()
    paths = found.files if isinstance(found, StoredModel) else found.paths
    return any(
        path.name == ours.name and path.parent.exists() and path.parent.samefile(ours.parent)
        for ours in paths
    )


def _is_called(found: StoredModel | Unfinished, model: str) -> bool:
    """By its name, or by the repository that it came from."""
    name, _, level = model.partition(":")
    source = found.manifest.source if found.manifest is not None and "/" in name else ""
    named = name.casefold() in (found.name.casefold(), source.casefold())
    return named and level.casefold() in ("", found.level.casefold())


def _merged(chosen: list[StoredModel | Unfinished], store: Store) -> list[Doomed]:
    """One entry a level, though it be there and in the making at once."""
    merged: dict[tuple[str, str], Doomed] = {}
    for found in chosen:
        key = found.name, found.level
        paths = found.files if isinstance(found, StoredModel) else found.paths
        before = merged.get(key)
        merged[key] = Doomed(
            *key,
            tuple(dict.fromkeys((*(before.paths if before else ()), *paths))),
            store.manifest_path(*key),
            found.size_bytes + (before.size_bytes if before else 0),
        )
    return list(merged.values())


def remove(level: Doomed) -> int:
    """Remove the level; how many bytes that freed: none of a file with another name elsewhere.

    Raises StoreError naming the process that is at work on it, or for a folder that cannot be
    written.
    """
    freed = 0
    folder = level.manifest_path.parent
    try:
        with contextlib.ExitStack() as locks:
            for path in level.paths:
                locks.enter_context(held(path, "removing it"))
            for path in _all_files(level):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.lstat()
                    path.unlink()
                    if stat.st_nlink == 1 and path != level.manifest_path:
                        freed += stat.st_size
            sync_folder(folder)
    except OSError as error:
        raise store_error(error, error.filename or folder) from error
    with contextlib.suppress(OSError):  # other levels are there
        folder.rmdir()
    return freed


def _all_files(level: Doomed) -> Iterator[Path]:
    """The manifest goes last: it tells what the files were."""
    for path in level.paths:
        yield path
        yield from beside(path)
    yield level.manifest_path
