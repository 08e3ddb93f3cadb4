"""What a repository on the Hub holds: models by level, split ones whole, a checkpoint's weights.

Pure: a snapshot's list of names goes in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fwlocal import splits
from fwlocal.errors import ModelNotFound, UsageError
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot
from fwlocal.levels import level_in

WEIGHTS = (".safetensors", ".bin")
NO_LEVEL = "GGUF"  # of a file whose name tells none


def name_of(repo: str) -> str:
    """What a repository's model is called."""
    return re.sub(r"[-_.]gguf$", "", repo.split("/")[-1], flags=re.IGNORECASE)


def model_of(file: str) -> str:
    """A GGUF's name without its folder, part and level."""
    stem = splits.stem_of(file.split("/")[-1])
    level = level_in(stem)
    bare = re.sub(rf"[-_.]?{re.escape(level)}$", "", stem, flags=re.IGNORECASE) if level else stem
    return bare or stem


def by_level(source: Snapshot) -> dict[str, tuple[str, ...]]:
    """The GGUFs of a repository by level: of each the (first) file's name."""
    found: dict[str, tuple[str, ...]] = {}
    for name in source.files:
        split = splits.parse(name.split("/")[-1])
        if _is_model(name) and (split is None or split.number == 1):
            level = level_in(name) or NO_LEVEL
            found[level] = (*found.get(level, ()), name)
    return found


def _is_model(name: str) -> bool:
    """Whether it is a language model, and no projector or importance matrix beside one."""
    low = name.lower()
    is_matrix = "imatrix" in low and level_in(name) is None
    return low.endswith(".gguf") and "mmproj" not in low and not is_matrix


def of_level(source: Snapshot, found: Mapping[str, tuple[str, ...]], level: str) -> str:
    """The one file of a level. Raises ModelNotFound, or UsageError where there are several."""
    names = found.get(level, ())
    if not names:
        raise source.reason or ModelNotFound(
            f"{source.repo} has no level {level!r}; there are {', '.join(found)}"
        )
    if len(names) > 1:
        raise UsageError(
            f"{source.repo}: several files are {level} ({', '.join(names[:3])}); name the one you "
            f"mean, as in {source.repo}/{names[0]}"
        )
    return names[0]


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
