"""A Hugging Face checkpoint: which files hold its weights, as one source of tensors.

Knows index files and shard names, and nothing of what the tensors mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from convert.sources.json_file import read_json
from convert.sources.safetensors_file import SafetensorsFile
from convert.sources.tensors import Bytes, SourceTensor, StoredRange, TensorSource
from convert.sources.torch_file import TorchFile
from fwlocal.errors import BadCheckpoint, UsageError

READERS: Mapping[str, Callable[[Path], TensorSource]] = {
    ".safetensors": SafetensorsFile,
    ".bin": TorchFile,
    ".pt": TorchFile,
    ".pth": TorchFile,
}
# The first of these that a folder has is taken, as transformers does.
INDEX = ".index.json"
STANDARD = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Location:
    """What a user's SOURCE means on this disk. ``weights`` is the one file named, None for all
    that ``folder`` holds; ``repo`` and ``revision`` are the Hub's, where they are known."""

    folder: Path
    weights: Path | None = None
    repo: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """A name for people: the repository's, else the folder's or file's own."""
        if self.repo is not None:
            return self.repo.split("/")[-1]
        if self.weights is not None and self.is_gguf:
            return as_text(self.weights.stem)
        return as_text(self.folder.resolve().name)

    @property
    def is_gguf(self) -> bool:
        """Whether the source is a GGUF rather than a checkpoint."""
        return self.weights is not None and self.weights.suffix.lower() == ".gguf"


def as_text(name: str) -> str:
    """A file's name as UTF-8 can spell it."""
    return name.encode("utf-8", "replace").decode()


def locate(source: str) -> Location:
    """A folder, a file of weights, or ``owner/repo`` in Hugging Face's cache on this machine.

    Raises UsageError when it is none of them.
    """
    if not source:
        raise UsageError("the source's name is empty; name a checkpoint's folder, or a .gguf")
    try:
        path = Path(source).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody who is not known here
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{source}: cannot be read: {reason}; name another source") from None
    if is_folder:
        return Location(path, None, *_hub_origin(path))
    if exists:
        known = (*READERS, ".gguf")
        if path.suffix.lower() not in known:
            raise UsageError(
                f"{source}: no source of weights; it must be one of {', '.join(known)}"
            )
        return Location(path.parent, path, *_hub_origin(path.parent))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not source.startswith("."):
        return _cached(source)
    raise UsageError(f"{source}: no such folder or file; name a checkpoint's folder, or a .gguf")


def _cached(repo: str) -> Location:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError):
        raise UsageError(
            f"{repo}: not here, nor in the Hugging Face cache; fetch it with: hf download "
            f"{repo} --local-dir {repo.split('/')[-1]}"
        ) from None
    return Location(folder, None, repo, folder.name)


def _hub_origin(folder: Path) -> tuple[str | None, str | None]:
    """Repository and commit, as Hugging Face's cache or ``hf download --local-dir`` note them."""
    parts = folder.resolve().parts
    if len(parts) > 3 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].removeprefix("models--").replace("--", "/", 1), parts[-1]
    note = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    try:
        commit = note.read_text(encoding="utf-8").split("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return None, None
    return None, commit if _COMMIT.fullmatch(commit) else None


class Shards:
    """Several files as one source."""

    def __init__(self, sources: Iterable[TensorSource]) -> None:
        """Raises BadCheckpoint when two of them hold a tensor of the same name."""
        self._sources = tuple(sources)
        self._source_of: dict[str, TensorSource] = {}
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
        self.files = tuple(path for source in self._sources for path in source.files)
        self.checksums: Mapping[Path, tuple[StoredRange, ...]] = dict(
            item for source in self._sources for item in source.checksums.items()
        )

    def read_rows(self, name: str, first: int, count: int) -> Bytes:
        """``count`` rows of the tensor from ``first``."""
        return self._source_of[name].read_rows(name, first, count)

    def close(self) -> None:
        """Give the files back."""
        for source in self._sources:
            source.close()


def open_checkpoint(location: Location) -> TensorSource:
    """All tensors of a checkpoint, every header checked.

    Raises BadCheckpoint for a missing shard, a damaged header, or an index that does not fit.
    """
    if location.weights is not None:
        return _open_all(_siblings(location.weights))
    for name in STANDARD:
        path = location.folder / name
        if path.exists():
            return _indexed(path) if name.endswith(INDEX) else _open(path)
    return _open_all(_weight_files(location.folder))


def _weight_files(folder: Path) -> list[Path]:
    """The files of a folder without an index."""
    for suffix in READERS:
        found = sorted(folder.glob(f"*{suffix}"))
        shards = [path for path in found if _SHARD.fullmatch(path.name)]
        if shards:
            return _siblings(shards[0])
        if len(found) == 1:
            return found
    several = [path.name for suffix in READERS for path in sorted(folder.glob(f"*{suffix}"))]
    if several:
        raise BadCheckpoint(
            f"{folder}: {len(several)} files may be the weights ({several[0]}, {several[1]}...) "
            "and no index tells; name the file"
        )
    raise BadCheckpoint(
        f"{folder}: no weights here (model.safetensors, pytorch_model.bin or their shards with an "
        "index); name the checkpoint's folder, or the file"
    )


def _siblings(shard: Path) -> list[Path]:
    """All files of the set that ``shard`` belongs to, by the count in its name."""
    match = _SHARD.fullmatch(shard.name)
    if match is None:
        return [shard]
    stem, _, count, suffix = match.groups()
    return [shard.with_name(f"{stem}-{i:05d}-of-{count}{suffix}") for i in range(1, int(count) + 1)]


def _indexed(index: Path) -> TensorSource:
    weight_map = _weight_map(index)
    shards = _open_all([index.parent / name for name in dict.fromkeys(weight_map.values())])
    try:
        _check_index(index, weight_map, shards)
    except BaseException:
        shards.close()
        raise
    return shards


def _weight_map(index: Path) -> dict[str, str]:
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
    return weight_map


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


def _check_index(index: Path, weight_map: Mapping[str, str], shards: Shards) -> None:
    for name, file in weight_map.items():
        tensor = shards.tensors.get(name)
        if tensor is None or tensor.file != index.parent / file:
            raise BadCheckpoint(
                f"{index.parent / file}: {name} is missing, though {index.name} promises it; fetch "
                "the file again"
            )
    for name, tensor in shards.tensors.items():
        if name not in weight_map:
            raise BadCheckpoint(
                f"{tensor.file}: unexpected tensor {name}, which {index.name} does not name; fetch "
                "the checkpoint again"
            )


def _open_all(paths: list[Path]) -> Shards:
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise BadCheckpoint(
            f"{missing[0]}: missing ({len(missing)} of {len(paths)} files are); fetch it from the "
            "model's repository"
        )
    opened: list[TensorSource] = []
    try:
        for path in paths:
            opened.append(_open(path))
        return Shards(opened)
    except BaseException:
        for source in opened:
            source.close()
        raise


def _open(path: Path) -> TensorSource:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise BadCheckpoint(f"{path}: weights are expected in {', '.join(READERS)} files")
    return reader(path)
