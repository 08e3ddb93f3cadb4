"""The models on this disk: where they are, and which file a name means.

One folder of plain GGUF files, ``NAME/NAME-LEVEL.gguf``, that any other runner can open too. A
ready-made file that was put there under its published name is found as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import ModelNotFound, StoreError
from fwlocal.registry import ModelSpec, Registry


@dataclass(frozen=True)
class StoredModel:
    """One level of a known model on this disk; ``sha256`` where models.toml pins it and the size
    agrees (it was checked when the file was fetched)."""

    spec: ModelSpec
    level: str
    path: Path
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class ModelFile:
    """What a user's MODEL means: a file, and what models.toml knows of it, if anything."""

    name: str
    path: Path
    spec: ModelSpec | None = None
    level: str | None = None
    sha256: str | None = None


_PART = re.compile(r"-\d{5}-of-\d{5}$")


def _parts(path: Path) -> list[Path]:
    """The files of a split GGUF, of which ``path`` is the first; any other is its own only part."""
    stem = _PART.sub("", path.stem)
    return [path] if stem == path.stem else sorted(path.parent.glob(f"{stem}-?????-of-?????.gguf"))


class Store:
    """The models folder at ``root``, which need not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, spec: ModelSpec, level: str) -> Path:
        """Where that level of a model belongs."""
        return self.root / spec.name / f"{spec.name}-{level}.gguf"

    def levels(self, spec: ModelSpec) -> list[StoredModel]:
        """The levels of a model that are on this disk, the default level first.

        Raises StoreError for a folder that cannot be read.
        """
        try:
            return list(self._levels(spec))
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.root}: cannot be read ({error.strerror or error}); make "
                "it readable, or set FWLOCAL_HOME to another folder"
            ) from error

    def _levels(self, spec: ModelSpec) -> Iterator[StoredModel]:
        published = {} if spec.gguf is None else {k: v.file for k, v in spec.gguf.levels.items()}
        found = {}
        for level in {spec.default_level: "", **published}:
            names = [self.path(spec, level).name, *filter(None, [published.get(level)])]
            for path in (self.root / spec.name / name for name in names):
                if level not in found and path.is_file():
                    found[level] = path
        for path in sorted((self.root / spec.name).glob(f"{spec.name}-*.gguf")):
            level = _PART.sub("", path.stem[len(spec.name) + 1 :])
            found.setdefault(level, path)  # of a split one, the first part
        for level, path in found.items():
            size_bytes = sum(part.stat().st_size for part in _parts(path))
            pinned = spec.package if level == spec.default_level else None
            known = pinned is not None and pinned.size_bytes == size_bytes
            sha256 = pinned.sha256 if pinned is not None and known else None
            yield StoredModel(spec, level, path, size_bytes, sha256)

    def find(self, spec: ModelSpec, level: str | None = None) -> StoredModel | None:
        """A level of a model, or its default one, else whichever is there."""
        return next((m for m in self.levels(spec) if level in (None, m.level)), None)


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
    """What MODEL means: a path to a .gguf, or ``NAME[:LEVEL]`` of the registry.

    The file of a registry model need not be there yet: see ``fwlocal.loader``. Raises
    ModelNotFound, offering the nearest names or saying how to get the file.
    """
    if model not in registry.models and looks_like_path(model):
        path = Path(model).expanduser()
        if not path.exists():
            raise ModelNotFound(f"{model}: no such file")
        return _known_file(path, registry, store)
    if "/" in model:
        repo, _, level = model.partition(":")
        pattern = f"*{level}.gguf" if level else "*.gguf"
        raise ModelNotFound(
            f"{model} is not on this disk; fetch it with: hf download {repo} --include "
            f'"{pattern}" --local-dir . and name the file'
        )
    name, _, level = model.partition(":")
    spec = registry.get(name)
    stored = store.find(spec, level or None)
    if stored is not None:
        return ModelFile(spec.name, stored.path, spec, stored.level, stored.sha256)
    wanted = level or spec.default_level
    if spec.package is not None and wanted == spec.default_level:
        return ModelFile(spec.name, store.path(spec, wanted), spec, wanted, spec.package.sha256)
    raise ModelNotFound(_how_to_get(spec, wanted, store))


def _known_file(path: Path, registry: Registry, store: Store) -> ModelFile:
    """A path, with its registry entry if it is a stored model or bears a published name."""
    for spec in registry.models.values():
        for stored in store.levels(spec):
            if stored.path == path or (stored.path.exists() and stored.path.samefile(path)):
                return ModelFile(spec.name, path, spec, stored.level, stored.sha256)
    published = registry.by_file_name(path.name)
    return ModelFile(published.name if published else path.stem, path, published)


def _how_to_get(spec: ModelSpec, level: str, store: Store) -> str:
    published = spec.gguf.levels if spec.gguf else {}
    if spec.gguf is not None and level in published:
        folder = store.root / spec.name
        return (
            f"{spec.name}:{level} is not on this disk ({published[level].size_gb:.1f} GB); fetch "
            f"it with: hf download {spec.gguf.repo} {published[level].file} --local-dir {folder}"
        )
    if published:
        return f"{spec.name} has no level {level!r}; there are {', '.join(published)}"
    if spec.package is not None:
        return f"{spec.name} has no level {level!r}; there is {spec.default_level}"
    if not spec.checkpoints:
        return f"{spec.name} is not on this disk and no source of it is known"
    repo = spec.checkpoints[0].repo
    name = repo.split("/")[-1]
    base = f" --base {spec.base.repo.split('/')[-1]}" if spec.base else ""
    also = f" (and {spec.base.repo})" if spec.base else ""
    return (
        f"{spec.name} is not on this disk and no GGUF of it is published; make it with: "
        f"hf download {repo} --local-dir {name}{also}, then "
        f"fwlocal convert {name} --quant {level}{base}"
    )
