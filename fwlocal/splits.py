"""The names of split GGUFs, ``STEM-00001-of-00003.gguf``, in one place.

The form is that of llama.cpp's gguf-split (``llama_split_path`` in llama.cpp). Names alone: what is
on the disk, and what a file says of itself (``split.count``), is for others to look at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class SplitName:
    """One part's name taken apart; ``number`` counts from 1 to ``count``."""

    stem: str
    number: int
    count: int


def parse(file_name: str) -> SplitName | None:
    """What the name of a part says; None for any other name, such as part 4 of 3."""
    match = _NAME.fullmatch(file_name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return None
    return SplitName(match["stem"], int(match["number"]), int(match["count"]))


def stem_of(file_name: str) -> str:
    """A file's name without its ``.gguf``, and of a part without its number."""
    split = parse(file_name)
    return file_name.removesuffix(".gguf") if split is None else split.stem


def part_name(stem: str, number: int, count: int) -> str:
    """The file name of part ``number``, from 1, of ``count``."""
    return f"{stem}-{number:05d}-of-{count:05d}.gguf"


def parts_of(path: Path) -> list[Path]:
    """All parts, in order, of the split file of which ``path`` is any; an unsplit file itself."""
    split = parse(path.name)
    if split is None:
        return [path]
    numbers = range(1, split.count + 1)
    return [path.with_name(part_name(split.stem, number, split.count)) for number in numbers]
