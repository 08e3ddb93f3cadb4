"""A checkpoint's folder, here or on the Hub, and which of its files are the weights.

Knows index files and shard names; opens nothing but what it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

from convert.sources.json_file import read_json
from convert.sources.remote import Feed, RemoteWeightFile
from convert.sources.repository import Repository
from convert.sources.source_file import SourceFile
from convert.sources.weight_file import WeightFile
from fwlocal.errors import BadCheckpoint

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
# The first of these that a folder has is taken, as transformers does.
INDEX = ".index.json"
STANDARD = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")


class Folder(Protocol):
    """Files by name."""

    @property
    def path(self) -> Path:
        """What the files' paths begin with, for messages."""

    @property
    def n_at_once(self) -> int:
        """How many files it is good to open at the same time."""

    def names(self) -> list[str]:
        """All files, sorted."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def small(self, name: str) -> Path:
        """Where a file that holds no weights is on this disk."""

    def open(self, name: str) -> SourceFile:
        """A file of weights. Raises BadCheckpoint, NetworkError."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this disk."""

    path: Path
    n_at_once: int = 1

    def names(self) -> list[str]:
        """All files, sorted."""
        return sorted(path.name for path in self.path.glob("*"))

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).exists()

    def small(self, name: str) -> Path:
        """Where it is."""
        return self.path / name

    def open(self, name: str) -> SourceFile:
        """A file of weights."""
        return WeightFile(self.path / name)


class RemoteFolder:
    """A repository, whose small files are in ``folder`` on this disk, and whose weights are read
    from there as far as they are there."""

    n_at_once = 4

    def __init__(self, repository: Repository, folder: Path, feed: Feed) -> None:
        self._repository, self._folder, self._feed = repository, folder, feed
        self._sizes = repository.sizes
        self.path = Path(repository.repo)

    def names(self) -> list[str]:
        """All files of the repository itself, sorted."""
        return sorted(name for name in self._sizes if "/" not in name)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self._sizes

    def small(self, name: str) -> Path:
        """Where it is, once it was fetched."""
        return self._folder / name

    def open(self, name: str) -> SourceFile:
        """A file of weights: the one on this disk, if it is as long as the Hub's."""
        path, remote = self._folder / name, self._repository.open(name)
        if path.is_file() and path.stat().st_size == self._sizes[name]:
            return WeightFile(path, remote.sha256)
        return RemoteWeightFile(remote, self._feed)


@dataclass(frozen=True)
class Weights:
    """The files that hold a checkpoint's weights; where an index names them, ``file_of`` tells
    which of them has a tensor."""

    names: tuple[str, ...]
    index: str | None = None
    file_of: Mapping[str, str] | None = None


def find_weights(folder: Folder) -> Weights:
    """What a folder holds. Raises BadCheckpoint when nothing tells, and for a bad index."""
    for name in STANDARD:
        if folder.has(name):
            return _indexed(folder, name) if name.endswith(INDEX) else Weights((name,))
    for suffix in SUFFIXES:
        found = _ending(folder, suffix)
        shards = [name for name in found if _SHARD.fullmatch(name)]
        if shards:
            return siblings(shards[0])
        if len(found) == 1:
            return Weights(tuple(found))
    several = [name for suffix in SUFFIXES for name in _ending(folder, suffix)]
    if several:
        raise BadCheckpoint(
            f"{folder.path}: {len(several)} files may be the weights ({several[0]}, {several[1]}"
            "...) and no index tells; name the file"
        )
    raise BadCheckpoint(
        f"{folder.path}: no weights here (model.safetensors, pytorch_model.bin or their shards "
        "with an index); name the checkpoint's folder, or the file"
    )


def _ending(folder: Folder, suffix: str) -> list[str]:
    return [name for name in folder.names() if name.endswith(suffix)]


def siblings(shard: str) -> Weights:
    """All files of the set that ``shard`` belongs to, by the count in its name."""
    match = _SHARD.fullmatch(shard)
    if match is None:
        return Weights((shard,))
    stem, _, count, suffix = match.groups()
    return Weights(tuple(f"{stem}-{i:05d}-of-{count}{suffix}" for i in range(1, int(count) + 1)))


def _indexed(folder: Folder, name: str) -> Weights:
    index = folder.small(name)
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadCheckpoint(f"{index}: it has no weight_map; fetch or copy the file again")
    for tensor, file in weight_map.items():
        if not tensor.isprintable():
            raise BadCheckpoint(
                f"{index}: {tensor!a} is no tensor's name; fetch or copy the file again"
            )
        if not _is_plain(file):
            raise BadCheckpoint(
                f"{index}: {tensor} is said to be in {file!a}, which names no file in the folder; "
                "fetch the file again from a source that you trust"
            )
    return Weights(tuple(dict.fromkeys(weight_map.values())), name, weight_map)


def _is_plain(file: Any) -> bool:
    """Whether an index entry names a file inside the folder, on every platform."""
    if not isinstance(file, str) or not file.isprintable():
        return False
    windows = PureWindowsPath(file)
    return (
        0 < len(file.encode()) < 256
        and not PurePosixPath(file).is_absolute()
        and not windows.drive
        and not windows.root
        and ".." not in windows.parts
    )
