"""A level's files, whole under their temporary names, become the level: all of them, or none.

Of a split model the first part comes last, and goes first when it is replaced: parts of two
versions never look like one model.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path

from fwlocal.files import partial_path, sync_folder
from fwlocal.splits import parse
from fwlocal.store.manifest import Manifest, manifest_path, write_manifest


def publish(manifest: Manifest, folder: Path) -> None:
    """Give the files of ``manifest`` in ``folder`` their names, remove what else there was of the
    level, and write the manifest. The caller holds the level's lock. Raises OSError."""
    stem = f"{manifest.name}-{manifest.level}"
    targets = [folder / file.name for file in manifest.files]
    path = manifest_path(folder, stem)
    path.unlink(missing_ok=True)  # it is of other bytes
    if len(targets) > 1:
        targets[0].unlink(missing_ok=True)
    for target in reversed(targets):
        if partial_path(target).exists():  # else it has its name already
            os.replace(partial_path(target), target)
    for old in set(files_of_level(folder, stem)) - set(targets):
        old.unlink(missing_ok=True)
    sync_folder(folder)
    write_manifest(path, manifest)


def files_of_level(folder: Path, stem: str) -> list[Path]:
    """All files that are called after NAME-LEVEL, in one file or split in whatever number."""
    split = folder.glob(f"{glob.escape(stem)}-*-of-*.gguf")
    whole = folder / f"{stem}.gguf"
    parts = [path for path in split if (name := parse(path.name)) and name.stem == stem]
    return [*([whole] if whole.exists() else []), *parts]
