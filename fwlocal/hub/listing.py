"""What a repository on the Hub holds: models by level, split ones whole, a checkpoint's weights.

Pure: a snapshot's list of names goes in.
"""

from __future__ import annotations

import re

from fwlocal import splits
from fwlocal.errors import UsageError
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot
from fwlocal.levels import level_in

WEIGHTS = (".safetensors", ".bin")
NO_MODELS = ("mmproj", "imatrix")  # GGUFs that are no language models


def name_of(repo: str) -> str:
    """What a repository's model is called in the store."""
    return re.sub(r"[-_.]gguf$", "", repo.split("/")[-1], flags=re.IGNORECASE)


def model_of(file: str) -> str:
    """A GGUF's name without its folder, part and level."""
    name = file.split("/")[-1]
    split = splits.parse(name)
    stem = split.stem if split else name[: -len(".gguf")]
    level = level_in(stem)
    bare = re.sub(rf"[-_.]?{re.escape(level)}$", "", stem, flags=re.IGNORECASE) if level else stem
    return bare or stem


def by_level(source: Snapshot) -> dict[str, tuple[HubFile, ...]]:
    """The models of a repository by level, each with all its parts. Raises UsageError where a level
    is there more than once."""
    found: dict[str, tuple[HubFile, ...]] = {}
    for name in source.files:
        split = splits.parse(name.split("/")[-1])
        is_model = name.lower().endswith(".gguf") and not any(n in name.lower() for n in NO_MODELS)
        if not is_model or (split is not None and split.number != 1):
            continue
        level = level_in(name) or "GGUF"
        if level in found:
            raise UsageError(
                f"{source.repo}: several files are {level} ({found[level][0].name}, {name}); name "
                f"the one you mean, as in {source.repo}/{name}"
            )
        found[level] = whole(source, name)
    return found


def whole(source: Snapshot, name: str) -> tuple[HubFile, ...]:
    """A file, or all files of the split one that it is a part of."""
    folder, _, last = name.rpartition("/")
    split = splits.parse(last)
    if split is None:
        return (source.file(name),)
    parts = [splits.part_name(split.stem, n, split.count) for n in range(1, split.count + 1)]
    return tuple(source.file(f"{folder}/{part}" if folder else part) for part in parts)


def weight_bytes(source: Snapshot) -> int:
    """Bytes of the weights that a conversion reads: one kind of files, at the top."""
    for suffix in WEIGHTS:
        sizes = [
            file.size_bytes
            for name, file in source.files.items()
            if name.endswith(suffix) and "/" not in name
        ]
        if sizes:
            return sum(sizes)
    return 0
