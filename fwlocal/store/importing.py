"""``fwlocal import``: a GGUF from elsewhere becomes a model of the store, by a link or a copy.

Its header is checked first, its bytes are hashed as they are taken in, and nothing is under its
final name before it is whole.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal import splits
from fwlocal.errors import BadModelFile, UsageError
from fwlocal.files import check_space, place, sha256_of, store_error, sync_folder
from fwlocal.gguf import GGUFHeader
from fwlocal.levels import level_in
from fwlocal.locks import held
from fwlocal.prompts import FORMAT_NAMES
from fwlocal.registry import Registry
from fwlocal.soundness import check_sound
from fwlocal.store import Store, StoredModel
from fwlocal.store.manifest import Manifest, ManifestFile, now, write_manifest
from fwlocal.whole import read_whole

NO_LEVEL = "GGUF"  # of a file that tells none
_MAX_NAME_BYTES = 100  # of the 255 that a file name may have


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
    for part in filter(None, (asked, level)):
        if folder_name(part) != part:
            raise UsageError(f"--name {part}: cannot be a folder's name; try {folder_name(part)!r}")
    return asked or _own_name(header, registry), level or level_of(header)


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
    plain = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "-" for c in text)
    short = re.sub(r"[\s-]+", "-", plain).encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return short.strip("-. ")


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
            manifest = store.manifest_path(arrival.name, arrival.level)
            files = _take_files(arrival, manifest, lambda done: on_progress(done / total))
            write_manifest(manifest, _manifest(arrival, files))
    except OSError as error:
        raise store_error(error, error.filename or first.parent) from error
    return first


def _take_files(
    arrival: Arrival, manifest: Path, on_bytes: Callable[[float], None]
) -> tuple[ManifestFile, ...]:
    """All parts, hashed under their temporary names, and then all given their own."""
    files, done = [], 0
    with contextlib.ExitStack() as stack:
        for source, target in arrival.moves:
            partial = target.with_name(f".{target.name}.partial")
            partial.unlink(missing_ok=True)
            stack.callback(partial.unlink, missing_ok=True)
            place(source, partial, copy=arrival.request.copy)
            size = partial.stat().st_size

            def progress(share: float, size: int = size, done: int = done) -> None:
                on_bytes(done + share * size)

            files.append(ManifestFile(target.name, size, sha256_of(partial, progress)))
            done += size
        manifest.unlink(missing_ok=True)  # it is of other bytes
        for _, target in reversed(arrival.moves):  # the first part comes last
            os.replace(target.with_name(f".{target.name}.partial"), target)
        for old in _replaced(arrival):
            old.unlink(missing_ok=True)
        sync_folder(arrival.moves[0][1].parent)
    return tuple(files)


def _replaced(arrival: Arrival) -> Iterator[Path]:
    """Files of the level as it was that are none of it now."""
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
