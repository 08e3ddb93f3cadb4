"""A model as a whole, in one GGUF or split in several: its parts and what they hold together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fwlocal import splits
from fwlocal.errors import BadModelFile
from fwlocal.gguf import GGUFHeader, read_header


def check_parts(header: GGUFHeader) -> None:
    """Raise BadModelFile unless the file is a model alone, or the first part of one whose others
    lie beside it: llama.cpp finds them by its name."""
    count = header.number("split.count") or 0
    if count < 2:
        return
    number = (header.number("split.no") or 0) + 1
    parts = splits.parts_of(header.path)
    if number != 1 or len(parts) != count or header.path != parts[0]:
        first = splits.part_name("NAME", 1, count)
        raise BadModelFile(
            f"{header.path}: part {number} of a model in {count} files; name the first of them, "
            f"called as in {first}, the others beside it"
        )
    for part in parts:
        if not part.is_file():
            raise BadModelFile(f"{part}: missing: one of {count} parts; put it beside the others")


def read_whole(path: Path) -> GGUFHeader:
    """The header of the model whose (first) file is ``path``, with the tensors and sizes of all
    its files; the offsets are those in each tensor's own file.

    Raises BadModelFile for a part that is missing or damaged.
    """
    header = read_header(path)
    check_parts(header)
    if (header.number("split.count") or 0) < 2:
        return header
    headers = [header, *map(read_header, splits.parts_of(path)[1:])]
    return replace(
        header,
        tensors=tuple(tensor for part in headers for tensor in part.tensors),
        file_size_bytes=sum(part.file_size_bytes for part in headers),
    )
