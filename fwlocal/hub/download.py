"""A remote file comes to this disk: whole, checked, and under a temporary name until all is well.

It grows as ``.NAME.partial``, with a note beside it of what it will be; whatever ends the download,
the next one goes on from there. A file with other bytes than the Hub names is set apart.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from fwlocal.errors import BadModelFile, NetworkError
from fwlocal.files import partial_path, place
from fwlocal.gguf import read_header
from fwlocal.hub import xet
from fwlocal.hub.remote_file import RemoteFile
from fwlocal.hub.repository import sha256_in
from fwlocal.hub.stream import Span, Stream

# Little is lost when the process is killed: a window per kill.
WINDOW_BYTES = 16 << 20
BLOCK_BYTES = 1 << 20

# Bytes of the file that are there, and whether they come over the network now, or are checked.
OnProgress = Callable[[int, bool], None]


def bring(
    file: RemoteFile, target: Path, on_progress: OnProgress = lambda done, fetching: None
) -> str:
    """Bring ``file`` to ``partial_path(target)``, in a folder that is there, under the caller's
    lock; its SHA-256.

    Raises NetworkError, after which another call goes on; BadModelFile for what is no GGUF;
    OSError for a disk that is full.
    """
    partial, note = partial_path(target), note_path(target)
    if not 0 < resumable_bytes(file, target) <= file.size_bytes:
        partial.unlink(missing_ok=True)
        target.with_name(f".{target.name}.journal").unlink(missing_ok=True)  # of a conversion
        note.write_text(json.dumps(_described(file)), encoding="utf-8")
    digest = hashlib.sha256()
    with partial.open("a+b", buffering=0) as out:
        _hash_present(out, digest, on_progress)
        _fetch(out, file, digest, on_progress)
        os.fsync(out.fileno())
    sha256 = digest.hexdigest()
    if file.sha256 not in (None, sha256):
        apart = set_apart(target)
        raise NetworkError(
            f"{file.repo}/{file.name}: wrong bytes came (sha256 {sha256[:12]}…, the Hub names "
            f"{(file.sha256 or '')[:12]}…); set apart as {apart}, never used; remove it and pull "
            "again"
        )
    try:
        read_header(partial)
    except BadModelFile as error:
        reason = str(error).removeprefix(f"{partial}: ").split("; ")[0]
        raise BadModelFile(
            f"{file.repo}/{file.name}: is damaged as it is published: {reason}; set apart as "
            f"{set_apart(target)}; choose another level or repository"
        ) from error
    return sha256


def note_path(target: Path) -> Path:
    """What says which file grows there."""
    return target.with_name(f".{target.name}.download")


def resumable_bytes(file: RemoteFile, target: Path) -> int:
    """Bytes of ``file`` that an earlier download has left at ``target``."""
    with suppress(OSError):
        if _same(note_path(target), file):
            return partial_path(target).stat().st_size
    return 0


def tidy(target: Path) -> None:
    """Remove what a download that has brought nothing left, and the note of one that is done."""
    with suppress(OSError):
        if partial_path(target).stat().st_size == 0:
            partial_path(target).unlink()
    if not partial_path(target).exists():
        note_path(target).unlink(missing_ok=True)


def link_cached(
    cached: Path, sha256: str | None, target: Path, on_progress: OnProgress
) -> str | None:
    """Put a file of Hugging Face's cache at ``partial_path(target)``, as a second name of the same
    bytes where the disk allows it; its SHA-256. None, and nothing is done, if it is not whole.

    Without a ``sha256`` the name of the cache's own blob is what it must be.
    """
    blob, expected = cached.resolve(), sha256 or sha256_in(cached)
    digest = hashlib.sha256()
    with blob.open("rb", buffering=0) as data:
        _hash_present(data, digest, on_progress)
    if expected != digest.hexdigest():
        return None
    partial_path(target).unlink(missing_ok=True)
    note_path(target).unlink(missing_ok=True)
    place(blob, partial_path(target))
    return expected


def set_apart(target: Path) -> Path:
    """Give what came a name that nothing reads."""
    apart = target.with_name(f"{target.name}.quarantine")
    os.replace(partial_path(target), apart)
    note_path(target).unlink(missing_ok=True)
    return apart


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
        on_progress(data.tell(), False)


def _fetch(
    out: IO[bytes], file: RemoteFile, digest: hashlib._Hash, on_progress: OnProgress
) -> None:
    for block in _blocks(file, out.tell()):
        view = memoryview(block)
        while view:
            view = view[out.write(view) :]
        digest.update(block)
        on_progress(out.tell(), True)


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
