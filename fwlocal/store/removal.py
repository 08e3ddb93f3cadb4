"""``fwlocal rm``: levels of the store and all that lies beside them, removed under their locks.

Nothing outside the store is ever removed. Asking the user is for others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fwlocal.errors import ModelNotFound, UsageError
from fwlocal.files import store_error, sync_folder
from fwlocal.locks import held
from fwlocal.registry import Registry
from fwlocal.store import Store, StoredModel, Unfinished, looks_like_path
from fwlocal.store.manifest import Manifest, read_manifest
from fwlocal.store.placement import files_of_level
from fwlocal.store.shelf import beside


@dataclass(frozen=True)
class Doomed:
    """One level to be removed: ``paths`` are the names of its files, there or still to come."""

    name: str
    level: str
    paths: tuple[Path, ...]
    manifest_path: Path
    size_bytes: int

    def as_data(self) -> dict[str, Any]:
        """Plain data, for ``--json``."""
        files = [str(path) for path in self.paths]
        own = {"model": self.name, "level": self.level}
        return {**own, "path": files[0], "files": files, "size_bytes": self.size_bytes}


def doomed(model: str, registry: Registry, store: Store) -> list[Doomed]:
    """What ``rm MODEL`` means: one level, or with no level named every one of the model's.

    MODEL is NAME[:LEVEL], owner/repo[:LEVEL], or the path of a file in the store. Raises
    ModelNotFound for nothing at all, UsageError for a path outside the store.
    """
    if not model.partition(":")[0]:
        raise UsageError(f"rm {model!r}: names no model; `fwlocal list` shows what there is")
    whole = store.entries(registry)
    all_there: list[StoredModel | Unfinished] = [*whole, *store.unfinished(registry)]
    if model not in registry.models and looks_like_path(model):
        chosen = [found for found in all_there if _has_path(found, model)]
        if not chosen:
            raise UsageError(
                f"{model}: is not in the models folder ({store.root}), and only what is there is "
                "removed"
            )
        return _merged(chosen, store)
    chosen = [found for found in all_there if _is_called(found, model)]
    levels = _merged(chosen, store)
    known = {level.manifest_path for level in levels}
    levels += [left for left in _left_behind(model, store) if left.manifest_path not in known]
    if not levels:
        raise ModelNotFound(f"{model} is not on this disk; `fwlocal list` shows what is")
    return levels


def _left_behind(model: str, store: Store) -> Iterator[Doomed]:
    """The manifests that MODEL means, whether their files are there or somebody removed them."""
    for name in store.names():
        for path in sorted((store.root / name).glob("*.json")):
            manifest = read_manifest(path)
            if manifest is None or path != store.manifest_path(manifest.name, manifest.level):
                continue
            if _is_meant(model, manifest.name, manifest.level, manifest):
                own = store.path(manifest.name, manifest.level)
                yield Doomed(manifest.name, manifest.level, (own,), path, 0)


def _has_path(found: StoredModel | Unfinished, model: str) -> bool:
    """Whether it has a file of that very name; another name of the same bytes is none of it."""
    path = Path(model).expanduser()
    paths = found.files if isinstance(found, StoredModel) else found.paths
    return any(
        path.name == ours.name and path.parent.exists() and path.parent.samefile(ours.parent)
        for ours in paths
    )


def _is_called(found: StoredModel | Unfinished, model: str) -> bool:
    begun = found.beginning.source if isinstance(found, Unfinished) and found.beginning else ""
    return _is_meant(model, found.name, found.level, found.manifest, begun)


def _is_meant(
    model: str, own_name: str, own_level: str, manifest: Manifest | None, begun: str = ""
) -> bool:
    """By its name, or by the repository that it came from, or is coming from."""
    name, _, level = model.partition(":")
    sources = (manifest.source if manifest is not None else "", begun)
    names = sources if "/" in name else (own_name,)
    of_name = name.casefold() in map(str.casefold, names)
    return of_name and level.casefold() in ("", own_level.casefold())


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
    named = files_of_level(level.manifest_path.parent, level.manifest_path.stem)
    for path in dict.fromkeys((*level.paths, *named)):
        yield path
        yield from beside(path)
    yield level.manifest_path
