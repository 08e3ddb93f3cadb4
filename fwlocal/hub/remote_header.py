"""The header of a GGUF that stays on the Hub, read by ranges of its beginning alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fwlocal.errors import BadModelFile
from fwlocal.gguf import GGUFHeader, MoreNeeded, header_of
from fwlocal.hub.remote_file import HubFile, RemoteFile
from fwlocal.hub.repository import Snapshot, cached
from fwlocal.whole import read_whole

FIRST_BYTES = 1 << 20  # a Llama's vocabulary; later parts of a split model have none
LATER_BYTES = 1 << 16
MOST_BYTES = 256 << 20  # far more than any vocabulary takes


def remote_header(source: Snapshot, files: Sequence[HubFile]) -> GGUFHeader:
    """The header of the model in ``files``, one or all parts of a split one, as
    ``fwlocal.whole.read_whole`` reads it on the disk; from Hugging Face's cache where it is there.

    Raises NetworkError; BadModelFile for what is no sound GGUF.
    """
    there = [cached(source.repo, file.name, source.commit) for file in files]
    if all(there):
        return read_whole(Path(str(there[0])))
    headers = [
        read_beginning(source.open(file.name), LATER_BYTES if index else FIRST_BYTES)
        for index, file in enumerate(files)
    ]
    return replace(
        headers[0],
        tensors=tuple(tensor for part in headers for tensor in part.tensors),
        file_size_bytes=sum(part.file_size_bytes for part in headers),
    )


def read_beginning(file: RemoteFile, first_bytes: int = FIRST_BYTES) -> GGUFHeader:
    """The header of one file, from its first bytes: twice as many again until it is whole.

    Raises as ``remote_header``.
    """
    path = Path(file.repo) / file.name
    beginning = bytearray()
    wanted = first_bytes
    while True:
        wanted = min(wanted, file.size_bytes)
        piece = bytearray(wanted - len(beginning))
        file.read_into(memoryview(piece), len(beginning))
        beginning += piece
        try:
            return header_of(path, bytes(beginning), file.size_bytes)
        except MoreNeeded as more:
            wanted = max(2 * wanted, more.end)
            if wanted > MOST_BYTES:
                raise BadModelFile(
                    f"{path}: damaged GGUF: its header takes more than {MOST_BYTES >> 20} MiB; "
                    "name another file"
                ) from None
