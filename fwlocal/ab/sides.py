"""Which two models are meant: levels of the one that answers, other models, or files.

What is wrong with either is found before anything is loaded, and nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fwlocal import splits
from fwlocal.ab.asked import is_level, sibling
from fwlocal.errors import ModelNotFound, UsageError
from fwlocal.gguf import GGUFHeader
from fwlocal.loader import Library, LoadedModel, open_file
from fwlocal.store import ModelFile, StoredModel, locate


@dataclass(frozen=True)
class Side:
    """One of the two. ``label`` tells it from the other; ``model`` is what loads it, in
    ``prompt_format``, None for its own; ``is_loaded``: it is the one that answers already."""

    label: str
    model: str
    prompt_format: str | None
    size_bytes: int
    header: GGUFHeader
    is_loaded: bool


def find_sides(names: Sequence[str], loaded: LoadedModel, library: Library) -> tuple[Side, Side]:
    """The two that ``names`` mean; one name is that of the other than the loaded one.

    Raises ModelNotFound, with the command that brings what is not on this disk; BadModelFile; and
    UsageError where both are the same.
    """
    found = [_find(name, loaded, library) for name in names]
    if len(found) == 1:
        found.insert(0, loaded.file)
    first, second = found
    if first.path == second.path or first.path.samefile(second.path):
        raise UsageError(
            f"{_label(first, loaded)} is compared with itself; /ab takes two levels, and /retry "
            "asks one again with another seed"
        )
    return _side(first, loaded, library), _side(second, loaded, library)


def _side(file: ModelFile, loaded: LoadedModel, library: Library) -> Side:
    is_loaded = file.path == loaded.file.path or file.path.samefile(loaded.file.path)
    known, header = open_file(str(file.path), library)
    is_alike = _is_same_model(known, loaded) or (
        known.spec is None and header.speaks_like(loaded.header)
    )
    return Side(
        label=_label(known, loaded),
        model=str(file.path),
        prompt_format=loaded.prompt_format if is_alike else None,
        size_bytes=sum(part.stat().st_size for part in splits.parts_of(file.path)),
        header=header,
        is_loaded=is_loaded,
    )


def _find(name: str, loaded: LoadedModel, library: Library) -> ModelFile:
    """What a name means, which is on this disk."""
    own = loaded.file
    stored = library.store.levels_of(own.name, library.registry)
    of_own = any(level.level.casefold() == name.casefold() for level in stored)
    if not (of_own or is_level(name)):
        file = locate(name, library.registry, library.store)
    elif stored or own.spec is not None:
        file = _level(name, own, stored, library)
    else:
        file = _beside(own.path, name)
    if not file.path.exists():  # of the embedded model, which is fetched when it is chatted with
        raise _not_here(f"{file.name}:{file.level}")
    return file


def _level(
    level: str, own: ModelFile, stored: Sequence[StoredModel], library: Library
) -> ModelFile:
    """A level of the model that answers."""
    try:
        return locate(f"{own.name}:{level}", library.registry, library.store)
    except ModelNotFound:
        # Where models.toml does not know it, another level may be where this one came from.
        sources = {one.manifest.source for one in stored if one.manifest and not one.spec}
        source = sources.pop() if len(sources) == 1 else ""
        if source.count("/") != 1 or Path(source).exists():
            raise
    raise _not_here(f"{own.name}:{level}", f"{source}:{level.upper()} --name {own.name}")


def _beside(path: Path, level: str) -> ModelFile:
    """The file beside one that is not in the store."""
    other = sibling(path, level)
    if other is None:
        raise ModelNotFound(
            f"{path.name} tells no level in its name, so {level} of it cannot be found; give two "
            "paths"
        )
    if not other.exists():
        raise ModelNotFound(f"{other}: no such file; give the path of the other level")
    return ModelFile(other.stem, other)


def _not_here(model: str, pulled: str = "") -> ModelNotFound:
    return ModelNotFound(
        f"{model} is not on this disk; get it with `fwlocal pull {pulled or model}`"
    )


def _is_same_model(file: ModelFile, loaded: LoadedModel) -> bool:
    """Whether it is a level of the model that answers."""
    own = loaded.file
    if file.path == own.path or (file.spec is not None and file.spec == own.spec):
        return True
    if file.level is None or own.level is None:
        return file.path == sibling(own.path, _named_level(file.path))
    return file.name == own.name


def _named_level(path: Path) -> str:
    from fwlocal.levels import level_in

    return level_in(path.name) or ""


def _label(file: ModelFile, loaded: LoadedModel) -> str:
    """The level alone where it is one of the model that answers."""
    if not file.level:
        return file.path.stem
    return file.level if file.name == loaded.file.name else f"{file.name}:{file.level}"
