"""A Hugging Face checkpoint: its files of weights, here or on the Hub, as one source of tensors.

Knows nothing of what the tensors mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convert.sources.folder import (
    SUFFIXES,
    Folder,
    LocalFolder,
    RemoteFolder,
    Weights,
    find_weights,
    siblings,
)
from convert.sources.location import Location, as_text, locate
from convert.sources.remote import WINDOW_BYTES, Feed
from convert.sources.safetensors_file import SafetensorsFile
from convert.sources.source_file import Bytes, SourceFile
from convert.sources.tensors import Extent, FileSource, SourceTensor, StoredRange
from convert.sources.torch_file import TorchFile
from fwlocal.errors import BadCheckpoint

__all__ = ["Location", "Shards", "as_text", "locate", "open_checkpoint"]

READERS: Mapping[str, Callable[[SourceFile], FileSource]] = {
    ".safetensors": SafetensorsFile,
    **dict.fromkeys((".bin", ".pt", ".pth"), TorchFile),
}


class Shards:
    """Files as one source; see ``convert.sources.tensors.TensorSource``."""

    def __init__(self, sources: Iterable[FileSource], feed: Feed | None = None) -> None:
        """``feed`` brings what is remote. Raises BadCheckpoint when two of the files hold a tensor
        of the same name."""
        self._sources = tuple(sources)
        self._feed = feed
        self._source_of: dict[str, FileSource] = {}
        tensors: dict[str, SourceTensor] = {}
        for source in self._sources:
            for name, tensor in source.tensors.items():
                if name in tensors:
                    raise BadCheckpoint(
                        f"{tensor.file}: {name} is also in {tensors[name].file.name}; fetch the "
                        "checkpoint again into an empty folder"
                    )
                tensors[name] = tensor
                self._source_of[name] = source
        self.tensors: Mapping[str, SourceTensor] = tensors
        self.files = tuple(file for source in self._sources for file in source.files)
        self.checksums: Mapping[Path, tuple[StoredRange, ...]] = dict(
            item for source in self._sources for item in source.checksums.items()
        )

    def read_rows(self, name: str, first: int, count: int) -> Bytes:
        """``count`` rows of the tensor from ``first``."""
        return self._source_of[name].read_rows(name, first, count)

    def extents(self, name: str) -> tuple[Extent, ...]:
        """Where the tensor is."""
        return (self._source_of[name].extent(name),)

    def expect(self, names: Sequence[str]) -> None:
        """These tensors will be read, in this order."""
        if self._feed is not None:
            extents = [extent for name in names for extent in self.extents(name)]
            self._feed.expect(extents, self.checksums)

    def has_room(self, name: str, end_row: int) -> bool:
        """Whether rows up to ``end_row`` may be read before all that was read is done."""
        if self._feed is None:
            return True
        extent = self._source_of[name].extent(name)
        size = extent.end - extent.begin
        return self._feed.has_room(
            extent, extent.begin + size * end_row // self.tensors[name].n_rows
        )

    def done(self, name: str) -> None:
        """What was made of the tensor is safe."""
        if self._feed is not None:
            self._feed.done(name)

    def close(self) -> None:
        """Give the files back."""
        if self._feed is not None:
            self._feed.close()
        for source in self._sources:
            source.close()


def open_checkpoint(location: Location, window_bytes: int = WINDOW_BYTES) -> Shards:
    """All tensors of a checkpoint, every header checked; ``window_bytes`` of what is remote may
    be in memory ahead.

    Raises BadCheckpoint for a missing shard, a damaged header, or an index that does not fit;
    NetworkError.
    """
    feed: Feed | None = None
    folder: Folder = LocalFolder(location.folder)
    if location.repository is not None:
        feed = Feed(location.repository.stream, window_bytes)
        folder = RemoteFolder(location.repository, location.folder, feed)
    if location.weights is not None:
        weights = siblings(location.weights.name)
    else:
        weights = find_weights(folder)
    return _open(folder, weights, feed)


def _open(folder: Folder, weights: Weights, feed: Feed | None) -> Shards:
    missing = [name for name in weights.names if not folder.has(name)]
    if missing:
        raise BadCheckpoint(
            f"{folder.path / missing[0]}: missing ({len(missing)} of {len(weights.names)} files "
            "are); fetch it from the model's repository"
        )
    sources = _open_each(folder, weights.names)
    try:
        shards = Shards(sources.values(), feed)
        _check_index(folder, weights, sources)
        return shards
    except BaseException:
        for source in sources.values():
            source.close()
        raise


def _open_each(folder: Folder, names: Sequence[str]) -> dict[str, FileSource]:
    with ThreadPoolExecutor(folder.n_at_once, thread_name_prefix="open") as pool:
        opening = {name: pool.submit(_open_file, folder, name) for name in names}
    failures = [error for task in opening.values() if (error := task.exception()) is not None]
    if failures:
        for task in opening.values():
            if task.exception() is None:
                task.result().close()
        raise failures[0]
    return {name: task.result() for name, task in opening.items()}


def _open_file(folder: Folder, name: str) -> FileSource:
    reader = READERS.get(Path(name).suffix.lower())
    if reader is None:
        raise BadCheckpoint(
            f"{folder.path / name}: weights are expected in {', '.join(SUFFIXES)} files"
        )
    file = folder.open(name)
    try:
        return reader(file)
    except BaseException:
        file.close()
        raise


def _check_index(folder: Folder, weights: Weights, sources: Mapping[str, FileSource]) -> None:
    """Every tensor must be in the file that the index names, and no other one may be there."""
    if weights.file_of is None:
        return
    for name, file in weights.file_of.items():
        if name not in sources[file].tensors:
            raise BadCheckpoint(
                f"{folder.path / file}: {name} is missing, though {weights.index} promises it; "
                "fetch the file again"
            )
    for source in sources.values():
        for name, tensor in source.tensors.items():
            if name not in weights.file_of:
                raise BadCheckpoint(
                    f"{tensor.file}: unexpected tensor {name}, which {weights.index} does not "
                    "name; fetch the checkpoint again"
                )
