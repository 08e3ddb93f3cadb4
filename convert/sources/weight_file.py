"""A file of weights on this disk, read at exact positions, and tensors that lie plainly in a file.

No memory map: a file that shrinks while it is mapped kills the process with SIGBUS, and mapped
pages would count as memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from convert.sources.source_file import Bytes, SourceFile
from convert.sources.tensors import Extent, SourceTensor, StoredRange, row_bytes
from fwlocal.errors import BadCheckpoint

_SHA256 = re.compile("[0-9a-f]{64}")
_POINTER = b"version https://git-lfs"


class WeightFile:
    """An open file on this disk; see ``convert.sources.source_file.SourceFile``."""

    sha256: str | None = None
    is_remote = False
    fetched_bytes = 0

    def __init__(self, path: Path, expected_sha256: str | None = None) -> None:
        """``expected_sha256`` is the Hub's; without one a blob of Hugging Face's cache, which is
        called by its hash, tells. Raises BadCheckpoint for what is no file, or only a Git-LFS
        pointer to one."""
        self.path = path
        if path.exists() and not path.is_file():
            raise BadCheckpoint(f"{path}: is no regular file; put the weights themselves there")
        try:
            self._file = path.open("rb", buffering=0)
            self.size_bytes = self._file.seek(0, 2)
        except OSError as error:
            raise BadCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from error
        self.expected_sha256 = expected_sha256 or _blob_sha256(path)
        if bytes(self.read(0, min(self.size_bytes, len(_POINTER)), "its start")) == _POINTER:
            self.close()
            raise BadCheckpoint(
                f"{path}: only a Git-LFS pointer, not the weights; fetch them with `git lfs pull`, "
                "or name the repository (owner/name) in the folder's place"
            )

    @property
    def identity(self) -> Sequence[str | int]:
        """Its whole path, size and time."""
        try:
            stat = self.path.stat()
            return (os.path.realpath(self.path), stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise BadCheckpoint(
                f"{self.path}: is gone ({error.strerror}); put it back, and the same command "
                "goes on"
            ) from error

    def read(self, offset: int, count: int, what: str) -> Bytes:
        """``count`` bytes from ``offset``. Raises BadCheckpoint naming ``what`` if they are not
        there."""
        buffer = np.empty(count, np.uint8)
        self.fill(buffer, offset, what)
        return buffer

    def read_each(self, pieces: Sequence[tuple[int, int]], what: str) -> list[Bytes]:
        """The same for many pieces, each an offset and a count."""
        return [self.read(offset, count, what) for offset, count in pieces]

    def fill(self, buffer: Bytes, offset: int, what: str) -> None:
        """The same into an array that is there."""
        view, count, done = buffer.data, buffer.size, 0
        try:
            self._file.seek(offset)
            while done < count:
                n = self._file.readinto(view[done:])
                if not n:
                    break
                done += n
        except OSError as error:
            raise BadCheckpoint(
                f"{self.path}: {what}: cannot be read: {error.strerror or error}"
            ) from error
        if done < count:
            raise BadCheckpoint(
                f"{self.path}: truncated at {what}: {offset + count} bytes expected, "
                f"{offset + done} on disk; fetch or copy the file again"
            )

    def lies_at(self, path: Path) -> bool:
        """Whether ``path``, which exists, is this very file."""
        return path.samefile(self.path)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _blob_sha256(path: Path) -> str | None:
    """What a file's name in ``models--owner--name/blobs`` says of large files; the others have
    git's hash, which is shorter."""
    blob = Path(os.path.realpath(path))
    return blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None


class PlainSource:
    """Tensors that lie in one file, row after row; see ``convert.sources.tensors.FileSource``."""

    def __init__(self, file: SourceFile, tensors: Mapping[str, SourceTensor]) -> None:
        self._file = file
        self.tensors = tensors
        self.files = (file,)
        self.checksums: Mapping[Path, tuple[StoredRange, ...]] = {}

    def read_rows(self, name: str, first: int, count: int) -> Bytes:
        """``count`` rows of the tensor from ``first``."""
        tensor = self.tensors[name]
        size = row_bytes(tensor.dtype, tensor.n_per_row)
        return self._file.read(tensor.offset + first * size, count * size, name)

    def extent(self, name: str) -> Extent:
        """Where the tensor is."""
        tensor = self.tensors[name]
        return Extent(name, self._file, tensor.offset, tensor.offset + tensor.size_bytes)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()
