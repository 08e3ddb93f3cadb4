"""A remote file becomes a file on this disk: whole, checked, and under its name only then.

It grows as ``.NAME.partial``, with a note beside it of what it will be; whatever ends the download,
the next one goes on from there. A file with other bytes than the Hub names is set apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from fwlocal.errors import NetworkError
from fwlocal.files import place, sync_folder
from fwlocal.hub import xet
from fwlocal.hub.remote_file import RemoteFile
from fwlocal.hub.stream import Span, Stream

# Little is lost when the process is killed: a window per kill.
WINDOW_BYTES = 16 << 20
BLOCK_BYTES = 1 << 20

OnProgress = Callable[[int], None]  # bytes of the file that are there


def download(file: RemoteFile, target: Path, on_progress: OnProgress = lambda done: None) -> str:
    """Put ``file`` at ``target``, in a folder that is there, under the caller's lock; its SHA-256.

    Raises NetworkError, after which another call goes on; OSError for a disk that is full.
    """
    partial, note = partial_path(target), note_path(target)
    if not 0 < resumable_bytes(file, target) <= file.size_bytes:
        partial.unlink(missing_ok=True)
        note.write_text(json.dumps(_described(file)), encoding="utf-8")
    digest = hashlib.sha256()
    with partial.open("a+b", buffering=0) as out:
        _hash_present(out, digest, on_progress)
        _fetch(out, file, digest, on_progress)
        os.fsync(out.fileno())
    sha256 = digest.hexdigest()
    if file.sha256 not in (None, sha256):
        raise _quarantined(file, target, sha256)
    os.replace(partial, target)
    note.unlink()
    sync_folder(target.parent)
    return sha256


def partial_path(target: Path) -> Path:
    """Where a file grows."""
    return target.with_name(f".{target.name}.partial")


def note_path(target: Path) -> Path:
    """What says which file grows there."""
    return target.with_name(f".{target.name}.download")


def resumable_bytes(file: RemoteFile, target: Path) -> int:
    """Bytes of ``file`` that an earlier download has left at ``target``."""
    with suppress(OSError):
        if _same(note_path(target), file):
            return partial_path(target).stat().st_size
    return 0


def link_cached(
    cached: Path, sha256: str | None, target: Path, on_progress: OnProgress
) -> str | None:
    """Put a file of Hugging Face's cache at ``target``, as a second name of the same bytes where
    the disk allows it; its SHA-256. None, and nothing is done, if it is not whole.

    Without a ``sha256`` the name of the cache's own blob is what it must be.
    """
    blob = cached.resolve()
    expected = sha256 or (blob.name if re.fullmatch("[0-9a-f]{64}", blob.name) else None)
    digest = hashlib.sha256()
    with blob.open("rb", buffering=0) as data:
        _hash_present(data, digest, on_progress)
    if expected != digest.hexdigest():
        return None
    partial = partial_path(target)
    partial.unlink(missing_ok=True)
    place(blob, partial)
    os.replace(partial, target)
    note_path(target).unlink(missing_ok=True)
    sync_folder(target.parent)
    return expected


def _described(file: RemoteFile) -> dict[str, object]:
    return {"identity": list(file.identity), "size_bytes": file.size_bytes, "commit": file.commit}


def _same(note: Path, file: RemoteFile) -> bool:
    """Whether the note is of the same content, at whatever commit."""
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        return bool(told["identity"] == list(file.identity))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _hash_present(data: IO[bytes], digest: hashlib._Hash, on_progress: OnProgress) -> None:
    """Hash what is there; the position is then its end."""
    data.seek(0)
    while block := data.read(BLOCK_BYTES):
        digest.update(block)
        on_progress(data.tell())


def _fetch(
    out: IO[bytes], file: RemoteFile, digest: hashlib._Hash, on_progress: OnProgress
) -> None:
    for block in _blocks(file, out.tell()):
        view = memoryview(block)
        while view:
            view = view[out.write(view) :]
        digest.update(block)
        on_progress(out.tell())


def _blocks(file: RemoteFile, start: int) -> Iterator[bytes | bytearray]:
    """The bytes from ``start`` on, each block valid until the next: by Xet as far as that goes."""
    for block in xet.stream(file, start):
        yield block
        start += len(block)
    buffer = bytearray(BLOCK_BYTES)
    with closing(Stream([Span(file, start, file.size_bytes)], window_bytes=WINDOW_BYTES)) as stream:
        while start < file.size_bytes:
            if file.size_bytes - start < len(buffer):
                buffer = bytearray(file.size_bytes - start)
            stream.read_into(memoryview(buffer))
            yield buffer
            start += len(buffer)


def _quarantined(file: RemoteFile, target: Path, sha256: str) -> NetworkError:
    """Set the file apart, under a name that nothing reads."""
    apart = target.with_name(f"{target.name}.quarantine")
    os.replace(partial_path(target), apart)
    note_path(target).unlink(missing_ok=True)
    return NetworkError(
        f"{file.repo}/{file.name}: wrong bytes came (sha256 {sha256[:12]}…, the Hub names "
        f"{(file.sha256 or '')[:12]}…); set apart as {apart}, never used; remove it and pull again"
    )
