"""Which model a state belongs to, known in milliseconds: its files are not read to their end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.splits import parts_of

if TYPE_CHECKING:
    from fwlocal.gguf import GGUFHeader
    from fwlocal.store import ModelFile

N_SAMPLES = 64  # of each file, spread evenly over it
SAMPLE_BYTES = 4096


def fingerprint(file: ModelFile, header: GGUFHeader) -> str | None:
    """64 hex digits that tell one model's file from another; None where it cannot be read.

    It is the SHA-256 over what is known of each of its files: size and time of change, so that one
    changed in place is another one, and

    * the whole file's SHA-256 where the store knows it: a copy elsewhere that kept its time of
      change is then the same model;
    * else its inode, the bytes of its header (of every part of a split model), and N_SAMPLES
      samples of SAMPLE_BYTES spread evenly over its tensors.

    So a false match needs a file of the same size, time, inode, header and samples: not an
    accident. A file that was only touched is another one, which costs a second evaluation.
    """
    path = file.path.absolute()
    is_split = (header.number("split.count") or 0) > 1
    parts = parts_of(path) if is_split else [path]
    digest = hashlib.sha256()
    try:
        for part in parts:
            stat = part.stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns} {file.sha256}\n".encode())
            if file.sha256 is None:
                start = header.data_offset if part == path else 0
                digest.update(f"{stat.st_ino}\n".encode())
                _add_samples(digest, part, start, stat.st_size)
    except OSError:
        return None
    return digest.hexdigest()


def _add_samples(digest: hashlib._Hash, path: Path, start: int, size: int) -> None:
    """Hash the first ``start`` bytes, and samples of the rest, the first and the last included."""
    span = max(0, size - start - SAMPLE_BYTES)
    with path.open("rb", buffering=0) as file:
        digest.update(file.read(start))
        for index in range(N_SAMPLES):
            file.seek(start + span * index // (N_SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
