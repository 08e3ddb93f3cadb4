"""One model's folder in the store: which files make up which level, and what is unfinished.

It looks at names alone, ``NAME-LEVEL.gguf`` or those under which a model was published, and at the
hidden ``.FILE.partial`` of a file that is still to come. What is in the files, it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fwlocal import splits
from fwlocal.levels import level_in
from fwlocal.locks import lock_files

SUFFIX, PARTIAL = ".gguf", ".gguf.partial"


@dataclass(frozen=True)
class Level:
    """The files of one level of a model: those that are ``there``, in order, the ``missing`` ones
    of a split level, and the hidden ``partials`` of those that are being made."""

    level: str
    stem: str
    there: tuple[Path, ...]
    missing: tuple[Path, ...]
    partials: tuple[Path, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it can be used."""
        return bool(self.there) and not self.missing

    @property
    def paths(self) -> tuple[Path, ...]:
        """All its files, whether they are there or not."""
        return tuple(sorted({*self.there, *self.missing}))


def read_shelf(folder: Path, name: str, published: Mapping[str, str] | None) -> list[Level]:
    """The levels of the model ``name`` in its folder, in the order of their names.

    ``published`` has the levels of the stems that a known model was published under; with None the
    model is not known, and any GGUF in the folder is one of its levels. A level that is there twice
    is told once, under our own name and whole if it is so. Raises OSError.
    """
    there, partials = _names(folder)
    groups = {_group(file_name) for file_name in (*there, *partials)}
    levels = []
    for stem, count in sorted(groups):
        level = _level_of(stem, name, published)
        if level:
            levels.append(_level(folder, level, stem, count, there, partials))
    levels.sort(key=lambda level: (not level.is_whole, level.stem != f"{name}-{level.level}"))
    first: dict[str, Level] = {}
    for found in levels:
        first.setdefault(found.level, found)
    return sorted(first.values(), key=lambda level: level.level)


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the GGUFs that are there, and of those of which there is a hidden part."""
    there: list[str] = []
    partials: list[str] = []
    try:
        paths = [*folder.iterdir()] if folder.is_dir() else []
    except FileNotFoundError:  # just removed
        paths = []
    for path in paths:
        name = path.name
        if name.startswith(".") and name.endswith(PARTIAL):
            partials.append(name[1:].removesuffix(".partial"))
        elif name.endswith(SUFFIX) and not name.startswith(".") and path.is_file():
            there.append(name)
    return there, partials


def _group(file_name: str) -> tuple[str, int]:
    """What all parts of a level share: their stem and count, 0 for a file that is not split."""
    split = splits.parse(file_name)
    return (file_name.removesuffix(SUFFIX), 0) if split is None else (split.stem, split.count)


def _level_of(stem: str, name: str, published: Mapping[str, str] | None) -> str:
    """The level that a stem means, "" for none."""
    if stem.startswith(f"{name}-") and stem != f"{name}-":
        return stem[len(name) + 1 :]
    if published is not None:
        return published.get(stem, "")
    return level_in(stem) or stem


def _level(
    folder: Path,
    level: str,
    stem: str,
    count: int,
    there: Iterable[str],
    partials: Iterable[str],
) -> Level:
    first = splits.part_name(stem, 1, count) if count else f"{stem}{SUFFIX}"
    names = [path.name for path in splits.parts_of(folder / first)]
    return Level(
        level,
        stem,
        tuple(folder / name for name in names if name in there),
        tuple(folder / name for name in names if name not in there),
        tuple(folder / f".{name}.partial" for name in names if name in partials),
    )


def beside(path: Path) -> list[Path]:
    """What lies beside the stored file ``path`` because of it alone: hidden files of work on it, be
    it under way, given up or killed, and a download that was set apart; its lock is left out."""
    hidden, locks = f".{path.name}.", lock_files(path)
    return [
        other
        for other in path.parent.iterdir()
        if (other.name.startswith(hidden) or other.name == f"{path.name}.quarantine")
        and other not in locks
    ]
