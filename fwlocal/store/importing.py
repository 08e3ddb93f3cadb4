"""``fwlocal import``: a GGUF from elsewhere becomes a model of the store, by a link or a copy.

Its header is checked first, its bytes are hashed as they are taken in, and nothing is under its
final name before it is whole.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal import splits
from fwlocal.errors import BadModelFile, UsageError
from fwlocal.files import check_space, partial_path, place, sha256_of, store_error
from fwlocal.gguf import GGUFHeader
from fwlocal.levels import level_in
from fwlocal.locks import held
from fwlocal.prompts import FORMAT_NAMES
from fwlocal.registry import Registry
from fwlocal.soundness import check_sound
from fwlocal.store import Store, StoredModel
from fwlocal.store.manifest import Manifest, ManifestFile, now
from fwlocal.store.placement import publish
from fwlocal.whole import read_whole

NO_LEVEL = "GGUF"  # of a file that tells none
_MAX_NAME_BYTES = 100  # of the 255 that a file name may have
_FORBIDDEN = frozenset('/\\:*?"<>|')  # in a file's name, on one system or another


@dataclass(frozen=True)
class Request:
    """``name`` is NAME[:LEVEL], and what is missing of it is read from the file; ``prompt_format``
    "" is left open; ``copy`` rules out a second name of the same bytes."""

    file: Path
    name: str = ""
    prompt_format: str = ""
    copy: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Arrival:
    """A checked file and where it goes: ``moves`` are pairs of a source and its target."""

    request: Request
    name: str
    level: str
    licence: str
    moves: tuple[tuple[Path, Path], ...]
    present: StoredModel | None


def check(request: Request, registry: Registry, store: Store) -> Arrival:
    """What the import would do, decided before anything is done.

    Raises BadModelFile for a file that is no sound model, UsageError for a name that cannot be one
    and for a level that is there already and may not be overwritten.
    """
    if request.prompt_format and request.prompt_format not in FORMAT_NAMES:
        raise UsageError(
            f"no prompt format is called {request.prompt_format!r}; there are "
            f"{', '.join(FORMAT_NAMES)}"
        )
    first = splits.parts_of(request.file)[0]
    header = read_whole(first if first.exists() else request.file)
    check_sound(header)
    name, level = _called(request, header, registry)
    present = store.find(name, registry, level)
    if present is not None and not request.overwrite:
        raise UsageError(
            f"{name}:{present.level} is there already; --overwrite replaces it, or give this one "
            "another name with --name"
        )
    target = store.path(name, level)
    sources = splits.parts_of(header.path) if header.number("split.count") else [header.path]
    names = [target.name]
    if len(sources) > 1:
        count = len(sources)
        names = [splits.part_name(target.stem, number + 1, count) for number in range(count)]
    moves = zip(map(_resolved, sources), (target.with_name(name) for name in names), strict=True)
    licence = header.text("general.license") or ""
    return Arrival(request, name, level, licence, tuple(moves), present)


def _resolved(path: Path) -> Path:
    """The file itself: a second name of a link would be no better than the link."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BadModelFile(f"{path}: cannot be read: {error}") from error


def _called(request: Request, header: GGUFHeader, registry: Registry) -> tuple[str, str]:
    """The name and the level: as asked for, else as the file says, else as it is called."""
    asked, _, level = request.name.partition(":")
    if asked and folder_name(asked) != asked:
        raise UsageError(f"--name {asked}: cannot be a folder's name; try {folder_name(asked)!r}")
    name, level = asked or _own_name(header, registry), level or level_of(header)
    is_part = splits.parse(f"{name}-{level}.gguf") is not None
    if is_part or not _is_end_of_name(level):
        better = "" if is_part else folder_name(level)
        raise UsageError(
            f"--name {name}:{level}: cannot end a file's name; try {better or NO_LEVEL!r}"
        )
    return name, level


def _own_name(header: GGUFHeader, registry: Registry) -> str:
    ours = header.text("fwlocal.model") or ""
    published = registry.by_file_name(header.path.name)
    if ours in registry.models or published is not None:
        return published.name if published is not None else ours
    stem = splits.stem_of(header.path.name)
    own = folder_name(header.text("general.name") or "")
    return own or folder_name(_without_level(stem)) or folder_name(stem) or "model"


def _without_level(stem: str) -> str:
    level = level_in(stem)
    return re.sub(rf"[-._]{re.escape(level)}$", "", stem, flags=re.IGNORECASE) if level else stem


def folder_name(text: str) -> str:
    """``text`` made a folder's name that is the same on every system and fits before a ``:``."""
    plain = "".join(c if c.isprintable() and c not in _FORBIDDEN else "-" for c in text)
    short = re.sub(r"[\s-]+", "-", plain).encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return short.strip("-. ")


def _is_end_of_name(level: str) -> bool:
    """Whether a file's name may end so, before its ``.gguf``, on every system."""
    sane = level.isprintable() and not set(level) & _FORBIDDEN and level == level.strip()
    return sane and 0 < len(level.encode()) <= _MAX_NAME_BYTES


def level_of(header: GGUFHeader) -> str:
    """The level of a file: as ``general.file_type`` says it, else its name."""
    import gguf

    number = header.number("general.file_type")
    names = {kind.value: kind.name for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    told = names.get(-1 if number is None else number, "")
    return (
        told.removeprefix("MOSTLY_").removeprefix("ALL_") or level_in(header.path.name) or NO_LEVEL
    )


def take_in(arrival: Arrival, store: Store, on_progress: Callable[[float], None]) -> Path:
    """Do it; the path of the (first) file. ``on_progress`` is told the fraction done.

    Raises StoreError, also for another process that is at work there, and DoesNotFit.
    """
    first = arrival.moves[0][1]
    total = sum(source.stat().st_size for source, _ in arrival.moves) or 1
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        with held(first, "importing it"):
            if arrival.request.copy:
                check_space(first.parent, total, f"{arrival.name}:{arrival.level}")
            _take_files(arrival, lambda done: on_progress(done / total))
    except OSError as error:
        raise store_error(error, error.filename or first.parent) from error
    return first


def _take_files(arrival: Arrival, on_bytes: Callable[[float], None]) -> None:
    """All parts, hashed under their temporary names, and then all given their own."""
    files, done = [], 0
    with contextlib.ExitStack() as stack:
        for source, target in arrival.moves:
            partial = partial_path(target)
            partial.unlink(missing_ok=True)
            stack.callback(partial.unlink, missing_ok=True)
            place(source, partial, copy=arrival.request.copy)
            size = partial.stat().st_size

            def progress(share: float, size: int = size, done: int = done) -> None:
                on_bytes(done + share * size)

            files.append(ManifestFile(target.name, size, sha256_of(partial, progress)))
            done += size
        publish(_manifest(arrival, tuple(files)), arrival.moves[0][1].parent)
        for old in _replaced(arrival):
            old.unlink(missing_ok=True)


def _replaced(arrival: Arrival) -> Iterator[Path]:
    """Files of the level as it was, under a published name, that are none of it now."""
    targets = {target for _, target in arrival.moves}
    for path in arrival.present.files if arrival.present else ():
        if path not in targets:
            yield path


def _manifest(arrival: Arrival, files: tuple[ManifestFile, ...]) -> Manifest:
    return Manifest(
        arrival.name,
        arrival.level,
        files,
        "import",
        source=str(arrival.moves[0][0]),
        licence=arrival.licence,
        prompt_format=arrival.request.prompt_format,
        added=now(),
    )
