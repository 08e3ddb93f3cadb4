"""The models on this disk: where they are, and which file a name means.

One folder of plain GGUF files, ``NAME/NAME-LEVEL.gguf``, that any other runner can open too, with a
small manifest beside each. A ready-made file that was put there under its published name is found
as well. Nothing is written here.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal import splits
from fwlocal.errors import ModelNotFound, StoreError
from fwlocal.files import allocated_bytes
from fwlocal.registry import ModelSpec, Registry
from fwlocal.store.advice import how_to_get, published_level
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


@dataclass(frozen=True)
class Unfinished:
    """A level that is not whole: on its way, given up, or with a part missing. ``paths`` are the
    names that its files have or will have, ``size_bytes`` what is there so far."""

    name: str
    level: str
    paths: tuple[Path, ...]
    partials: tuple[Path, ...]
    missing: tuple[Path, ...]
    size_bytes: int
    manifest: Manifest | None


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
    folder that cannot be read."""

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
        return _pick(self.levels_of(name, registry), level)

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
            name, level.level, level.paths, level.partials, missing, size_bytes, manifest
        )

    def _shelf(self, name: str, spec: ModelSpec | None) -> list[Level]:
        if not is_file_name(name):
            return []
        published = None if spec is None else _published(spec)
        with self._readable():
            return read_shelf(self.root / name, name, published)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
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


def _pick(levels: Iterable[StoredModel], level: str | None) -> StoredModel | None:
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
    found = _pick(ours, level or None)
    if found is None:
        wanted = f"{repo}:{level}" if level else repo
        raise ModelNotFound(f"{wanted} is not on this disk; get it with `fwlocal pull {wanted}`")
    return _model_file(found, found.path)


def _named(name: str, level: str, registry: Registry, store: Store) -> ModelFile:
    if name not in registry.models:
        name = _stored_name(name, registry, store)
    stored = store.find(name, registry, level or None)
    if stored is not None:
        return _model_file(stored, stored.path)
    for broken in store.unfinished(registry):
        if broken.name == name and broken.missing and level in ("", broken.level):
            raise ModelNotFound(
                f"{name}:{broken.level} is incomplete: {broken.missing[0].name} is missing; get it "
                f"with `fwlocal pull {name}:{broken.level} --overwrite`, or put it there"
            )
    spec = registry.models.get(name)
    if spec is None:
        raise ModelNotFound(_no_level(name, level, registry, store))
    wanted = published_level(spec, level or spec.default_level)
    if spec.package is not None and wanted == spec.default_level:
        path = store.path(spec.name, wanted)
        return ModelFile(spec.name, path, spec, wanted, spec.package.sha256)
    raise ModelNotFound(how_to_get(spec, wanted))


def _stored_name(name: str, registry: Registry, store: Store) -> str:
    """The folder of the store that ``name`` means, in whatever case. Raises ModelNotFound."""
    names = store.names()
    if name in names:
        return name
    found = [known for known in names if known.casefold() == name.casefold()]
    if len(found) == 1:
        return found[0]
    near = difflib.get_close_matches(name, [*registry.models, *names], n=3)
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
