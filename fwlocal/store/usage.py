"""When a stored model was last used: a note in its manifest, made as well as possible.

A store that cannot be written, and a lock that another process holds, cost neither time nor an
error. The note changes once an hour at most, so that a start does not wait for the disk.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from fwlocal.errors import StoreError
from fwlocal.locks import held
from fwlocal.store.manifest import now, read_manifest, write_manifest

_HOUR = len("2024-01-31T12")


def note_use(file: Path, manifest_path: Path) -> None:
    """Note that the stored ``file``, a level's first, is used now, if it has a manifest."""
    manifest = read_manifest(manifest_path)
    if manifest is None or manifest.last_used[:_HOUR] == now()[:_HOUR]:
        return
    with contextlib.suppress(OSError, StoreError), held(file, "noting its use"):
        manifest = read_manifest(manifest_path)  # as it is now that nobody else changes it
        if manifest is not None:
            write_manifest(manifest_path, replace(manifest, last_used=now()))
