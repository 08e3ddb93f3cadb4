"""The manifests of levels that a conversion has put into the models folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.files import sha256_of, store_error
from fwlocal.progress import ProgressBar
from fwlocal.store import default_root
from fwlocal.store.manifest import (
    Manifest,
    ManifestFile,
    manifest_path,
    now,
    read_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    from convert.job import Job
    from convert.plan import PlannedLevel


def record(work: Job, wrote: Sequence[Path]) -> None:
    """Write the manifest of every level of the job that lies in the models folder, if it is new or
    has none. The files are read once more, for their SHA-256: what is on the disk is what counts.
    """
    folder = work.request.out.resolve()
    if folder.parent != default_root().resolve():
        return
    try:
        for level in work.levels:
            stem = f"{folder.name}-{level.level.name}"
            path = manifest_path(folder, stem)
            is_new = any(file.path in wrote for file in level.files) or not read_manifest(path)
            if is_new and level.files[0].path.name.startswith(stem):
                with contextlib.suppress(FileNotFoundError):  # another process has removed it
                    write_manifest(path, _manifest(work, level, folder.name))
    except OSError as error:
        raise store_error(error, error.filename or folder) from error


def _manifest(work: Job, level: PlannedLevel, name: str) -> Manifest:
    from convert.sources.repository import HubRepository

    location = work.request.location
    files = []
    for file in level.files:
        with ProgressBar(f"hashing {file.path.name}") as bar:
            sha256 = sha256_of(file.path, bar.update)
        files.append(ManifestFile(file.path.name, file.path.stat().st_size, sha256))
    source = location.repo or str((location.weights or location.folder).resolve())
    licence = work.request.known.licence
    if isinstance(location.repository, HubRepository):
        licence = licence or location.repository.snapshot.licence
    return Manifest(name, level.level.name, tuple(files), "convert", source,
                    location.revision or "", licence, added=now())  # fmt: skip
