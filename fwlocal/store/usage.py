"""When a stored model was last used: a note in its manifest, made as well as possible.

A store that cannot be written, and a lock that another process holds, cost neither time nor an
error. The note changes once an hour at most, so that a start does not wait for the disk.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from fwlocal.errors import StoreError
from fwlocal.locks import held
from fwlocal.store.manifest import manifest_path, now, read_manifest, write_manifest
from fwlocal.store.models import ModelFile

_HOUR = len("2024-01-31T12")


def note_use(file: ModelFile) -> None:
    """Note that a stored level is used now, if it has a manifest; of other files nothing is
    noted."""
    if file.level is None:
        return
    path = manifest_path(file.path.parent, f"{file.name}-{file.level}")
    manifest = read_manifest(path)
    if manifest is None or manifest.last_used[:_HOUR] == now()[:_HOUR]:
        return
    with contextlib.suppress(OSError, StoreError), held(file.path, "noting its use"):
        manifest = read_manifest(path)  # as it is now that nobody else changes it
        if manifest is not None:
            write_manifest(path, replace(manifest, last_used=now()))
