"""The models on this disk: where they are, and what is known of each.

One folder of plain GGUF files, ``NAME/NAME-LEVEL.gguf``, that any other runner can open too, with a
small manifest beside each. A ready-made file that was put there under its published name is found
as well. Nothing is written here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fwlocal import splits
from fwlocal.errors import StoreError
from fwlocal.files import allocated_bytes
from fwlocal.registry import ModelSpec, Registry
from fwlocal.store.beginnings import Beginning, beginning_of
from fwlocal.store.manifest import Manifest, is_file_name, manifest_path, read_manifest
from fwlocal.store.shelf import Level, read_shelf

FAVOURITE_LEVEL = "Q4_K_M"  # of a model that names no default


@dataclass(frozen=True)
class StoredModel:
    """One level of a model on this disk, whole: ``path`` is its first file, ``files`` all parts of
    a split one. ``spec`` is None for a model that models.toml does not know."""

    name: str
    level: str
    path: Path
    files: tuple[Path, ...]
    size_bytes: int
    manifest: Manifest | None
    spec: ModelSpec | None

    @property
    def sha256(self) -> str | None:
        """Of the one file, by its manifest or models.toml, where the size agrees; None for a split
        level."""
        recorded = {file.size_bytes for file in self.manifest.files} if self.manifest else None
        sound = len(self.files) == 1 and recorded in (None, {self.size_bytes})
        return self.hashes.get(self.path) if sound else None

    @property
    def hashes(self) -> dict[Path, str]:
        """The SHA-256 that each file must have, where it is known: the manifest's, else that of a
        package's only file where its size agrees."""
        if self.manifest is not None:
            known = {file.name: file.sha256 for file in self.manifest.files}
            return {path: sha for path in self.files if (sha := known.get(path.name)) is not None}
        package = self.spec.package if self.spec and self.level == self.spec.default_level else None
        same = package is not None and package.size_bytes == self.size_bytes
        return {self.path: package.sha256} if package is not None and same else {}

    @property
    def licence(self) -> str:
        """By its manifest, else by models.toml; "" where it is not known."""
        known = self.manifest.licence if self.manifest else ""
        return known or (self.spec.licence.name if self.spec else "")

    def as_data(self) -> dict[str, Any]:
        """What every verb tells of it with ``--json``, under the names that all of them use; None
        for what is not known."""
        manifest = self.manifest
        return {
            "model": self.name,
            "level": self.level,
            "path": str(self.path),
            "files": [str(path) for path in self.files],
            "size_bytes": self.size_bytes,
            "source": (manifest.source if manifest else "") or None,
            "revision": (manifest.revision if manifest else "") or None,
            "licence": self.licence or None,
        }


@dataclass(frozen=True)
class Unfinished:
    """A level that is not whole: on its way, given up, or with a part missing. ``paths`` are the
    names that its files have or will have, ``size_bytes`` what is there so far, and ``beginning``
    tells from where it is on its way."""

    name: str
    level: str
    paths: tuple[Path, ...]
    partials: tuple[Path, ...]
    missing: tuple[Path, ...]
    size_bytes: int
    manifest: Manifest | None
    beginning: Beginning | None


@dataclass(frozen=True)
class ModelFile:
    """What a user's MODEL means: a file, and what models.toml and its manifest know of it, if
    anything. ``level`` is None for a file outside the store."""

    name: str
    path: Path
    spec: ModelSpec | None = None
    level: str | None = None
    sha256: str | None = None
    prompt_format: str | None = None


class Store:
    """The models folder at ``root``, which need not exist. All its methods raise StoreError for a
    folder that cannot be read, or is none."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str, level: str) -> Path:
        """Where that level of a model belongs; its manifest lies beside it."""
        return self.root / name / f"{name}-{level}.gguf"

    def manifest_path(self, name: str, level: str) -> Path:
        """Where the manifest of that level belongs."""
        return manifest_path(self.root / name, f"{name}-{level}")

    def names(self) -> list[str]:
        """The folders in the store, each of which may hold a model."""
        with self._readable():
            there = self.root.iterdir() if self.root.is_dir() else ()
            return sorted(path.name for path in there if is_file_name(path.name) and path.is_dir())

    def entries(self, registry: Registry) -> list[StoredModel]:
        """Every level that is on this disk, whole: by name, each model's default level first."""
        return [m for name in self.names() for m in self.levels_of(name, registry)]

    def unfinished(self, registry: Registry) -> list[Unfinished]:
        """Every level that is not whole, and every file that is being made anew."""
        return [
            self._unfinished(name, level)
            for name in self.names()
            for level in self._shelf(name, registry.models.get(name))
            if level.partials or not level.is_whole
        ]

    def levels(self, spec: ModelSpec) -> list[StoredModel]:
        """The levels of a known model that are on this disk, the default level first."""
        return self._levels(spec.name, spec)

    def levels_of(self, name: str, registry: Registry) -> list[StoredModel]:
        """The levels of any model that are on this disk, the default level first."""
        return self._levels(name, registry.models.get(name))

    def find(self, name: str, registry: Registry, level: str | None = None) -> StoredModel | None:
        """A level of a model, in whatever case, or its default one, else whichever is there."""
        return pick(self.levels_of(name, registry), level)

    def _levels(self, name: str, spec: ModelSpec | None) -> list[StoredModel]:
        order = [spec.default_level, *spec.level_sizes_gb] if spec else [FAVOURITE_LEVEL]
        rank = {level: index for index, level in reversed([*enumerate(order)])}
        whole = [level for level in self._shelf(name, spec) if level.is_whole]
        whole.sort(key=lambda level: rank.get(level.level, len(order)))
        return [stored for level in whole if (stored := self._stored(name, level, spec))]

    def _stored(self, name: str, level: Level, spec: ModelSpec | None) -> StoredModel | None:
        manifest = read_manifest(self.manifest_path(name, level.level))
        files = level.there
        with self._readable(), contextlib.suppress(FileNotFoundError):  # just removed
            size_bytes = sum(path.stat().st_size for path in files)
            return StoredModel(name, level.level, files[0], files, size_bytes, manifest, spec)
        return None

    def _unfinished(self, name: str, level: Level) -> Unfinished:
        whole = level.is_whole  # and is being replaced
        files = level.partials if whole else (*level.there, *level.partials)
        size_bytes = sum(map(allocated_bytes, files))
        missing = () if level.partials else level.missing
        manifest = read_manifest(self.manifest_path(name, level.level))
        return Unfinished(
            name,
            level.level,
            level.paths,
            level.partials,
            missing,
            size_bytes,
            manifest,
            beginning_of(level.paths),
        )

    def _shelf(self, name: str, spec: ModelSpec | None) -> list[Level]:
        if not is_file_name(name):
            return []
        published = None if spec is None else _published(spec)
        with self._readable():
            return read_shelf(self.root / name, name, published)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root}: is no folder; set FWLOCAL_HOME to another folder")
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.root}: cannot be read ({error.strerror or error}); make "
                "it readable, or set FWLOCAL_HOME to another folder"
            ) from error


def _published(spec: ModelSpec) -> dict[str, str]:
    """The levels of the stems under which a model is published."""
    levels = {} if spec.gguf is None else spec.gguf.levels
    return {splits.stem_of(published.file): level for level, published in levels.items()}


def pick(levels: Iterable[StoredModel], level: str | None) -> StoredModel | None:
    """The asked level, in whatever case; the first where none is asked for."""
    wanted = None if level is None else level.casefold()
    return next((m for m in levels if wanted in (None, m.level.casefold())), None)


def default_root() -> Path:
    """FWLOCAL_HOME, else the platform's folder for a user's data."""
    override = os.environ.get("FWLOCAL_HOME")
    if override:
        return Path(override)
    import platformdirs

    return platformdirs.user_data_path("fwlocal", appauthor=False) / "models"
