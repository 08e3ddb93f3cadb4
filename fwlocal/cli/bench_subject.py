"""What MODEL means to ``fwlocal bench``: a model's levels that are here, and what others come from.

Headers are read, and nothing is fetched or written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.cli import bench_making as making
from fwlocal.errors import BadModelFile
from fwlocal.levels import level_in

if TYPE_CHECKING:
    from fwlocal.gguf import GGUFHeader
    from fwlocal.library import Library
    from fwlocal.registry import ModelSpec
    from fwlocal.store import ModelFile, StoredModel


@dataclass(frozen=True)
class Subject:
    """A model: ``name`` in the models folder, ``model`` as pull understands it, "" where there is
    nothing to pull; its levels that are ``here``; and what was named to convert from, if it is no
    level of the models folder."""

    name: str
    model: str
    here: Mapping[str, ModelFile]
    spec: ModelSpec | None = None
    origin: making.Origin | None = None

    @property
    def prompt_format(self) -> str | None:
        """That one level was stored with, for all of them."""
        return next((f.prompt_format for f in self.here.values() if f.prompt_format), None)

    @property
    def header(self) -> GGUFHeader | None:
        """Of any of the levels."""
        return next((header for _, header in readable(self.here.values())), None)


def subject_of(model: str, library: Library) -> tuple[Subject, str]:
    """What MODEL means, and the levels that it names itself. Raises ModelNotFound."""
    from fwlocal.store import locate, looks_like_path

    registry, store = library.registry, library.store
    path = Path(model).expanduser()
    if model not in registry.models and (path / "config.json").is_file():
        return _of_checkpoint(path, library), ""
    if model not in registry.models and looks_like_path(model):
        file = locate(model, registry, store)
        if file.level is None:
            return _of_path(file, library), ""
        model = file.name
    name, _, levels = model.partition(":")
    if "/" in name:
        entries = [entry for entry in store.entries(registry) if _is_from(entry, name)]
        return stored(entries[0].name if entries else "", name, library), levels
    if name not in registry.models:
        name = locate(name, registry, store).name
    return stored(name, name, library), levels


def _is_from(entry: StoredModel, source: str) -> bool:
    return entry.manifest is not None and entry.manifest.source.casefold() == source.casefold()


def stored(name: str, model: str, library: Library) -> Subject:
    """A model of the models folder, or one that may be pulled there."""
    return Subject(name, model, levels_here(name, library), library.registry.models.get(name))


def levels_here(name: str, library: Library) -> dict[str, ModelFile]:
    """The levels of a model that are in the models folder."""
    from fwlocal.store import locate

    if not name:
        return {}
    registry, store = library.registry, library.store
    entries = store.levels_of(name, registry)
    return {entry.level: locate(str(entry.path), registry, store) for entry in entries}


def _of_path(file: ModelFile, library: Library) -> Subject:
    """A GGUF elsewhere: its levels are made of it."""
    from fwlocal.bench.entrants import is_derived, is_quantized
    from fwlocal.store.importing import NO_LEVEL, level_of
    from fwlocal.whole import read_whole

    header = read_whole(file.path)
    own = level_in(file.path.name)
    stem = re.sub(rf"[-.]{re.escape(own)}$", "", file.path.stem, flags=re.I) if own else ""
    licence = header.text("general.license") or ""
    loses = is_quantized(header) or is_derived(header)
    origin = making.of_file(file, loses, library, licence)
    name = _free_name(stem or file.path.stem, origin, library)
    level = own or level_of(header)
    return Subject(
        name, "", {file.path.stem if level == NO_LEVEL else level: file}, file.spec, origin
    )


def _of_checkpoint(folder: Path, library: Library) -> Subject:
    """A checkpoint's folder: of a known model, whose levels are made of it, or of any other."""
    from fwlocal.cli import known_source

    source = known_source.find(str(folder), None, library.registry, None)
    spec, origin = source.spec, making.Origin(source)
    if spec is not None:
        return replace(stored(spec.name, spec.name, library), origin=origin)
    return Subject(_free_name(source.location.name, origin, library), "", {}, None, origin)


def _free_name(text: str, origin: making.Origin, library: Library) -> str:
    """A name in the models folder for what is made of ``origin``, and of nothing else."""
    from fwlocal.store.importing import folder_name

    name, registry = folder_name(text) or "model", library.registry
    there = library.store.levels_of(name, registry)
    if name in registry.models or not all(_is_from(entry, origin.recorded) for entry in there):
        return f"{name}-{hashlib.sha256(origin.recorded.encode()).hexdigest()[:6]}"
    return name


def readable(files: Iterable[ModelFile]) -> list[tuple[ModelFile, GGUFHeader]]:
    """Those whose headers are sound."""
    from fwlocal.whole import read_whole

    found = []
    for file in files:
        try:
            found.append((file, read_whole(file.path)))
        except BadModelFile:
            continue
    return found
