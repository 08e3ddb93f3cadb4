"""What a user's SOURCE means: a folder, a file, a repository in Hugging Face's cache or on its Hub.

Asks the Hub only for what is not whole on this disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from convert.sources.folder import SUFFIXES, LocalFolder, find_weights
from convert.sources.repository import HubRepository, Repository
from fwlocal.errors import BadCheckpoint, ModelNotFound, NetworkError, UsageError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")

Ask = Callable[[str, "str | None"], Repository]


@dataclass(frozen=True)
class Location:
    """Where a source is. ``weights`` is the one file named, None for all that ``folder`` holds;
    ``repo`` and ``revision`` are the Hub's, where they are known. With a ``repository`` the weights
    are there, and ``folder`` holds the small files alone."""

    folder: Path
    weights: Path | None = None
    repo: str | None = None
    revision: str | None = None
    repository: Repository | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """A name for people: the repository's, else the folder's or file's own."""
        if self.repo is not None:
            return self.repo.split("/")[-1]
        if self.weights is not None and self.is_gguf:
            return as_text(self.weights.stem)
        return as_text(real(self.folder).name)

    @property
    def is_gguf(self) -> bool:
        """Whether the source is a GGUF rather than a checkpoint."""
        return self.weights is not None and self.weights.suffix.lower() == ".gguf"


def real(path: Path) -> Path:
    """The path without links. A loop of them stays as it is: before Python 3.13, ``Path.resolve``
    raises RuntimeError there."""
    return Path(os.path.realpath(path))


def as_text(name: str) -> str:
    """A file's name as UTF-8 can spell it."""
    return name.encode("utf-8", "replace").decode()


def locate(source: str, revision: str | None = None, ask: Ask = HubRepository.ask) -> Location:
    """A folder, a file of weights, or ``owner/repo``, also ``owner/repo@revision``: in Hugging
    Face's cache on this disk if it is whole there, else on the Hub, which ``ask`` asks.

    Raises UsageError when it is none of them, ModelNotFound and NetworkError of the Hub.
    """
    if not source:
        raise UsageError("the source's name is empty; name a checkpoint's folder, or a .gguf")
    try:
        path = Path(source).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody who is not known here
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{source}: cannot be read: {reason}; name another source") from None
    if exists and revision is not None:
        raise UsageError(f"{source}: is on this disk, where it has no revisions; leave that out")
    if is_folder:
        folder = _snapshot_in(path)
        return Location(folder, None, *_hub_origin(folder))
    if exists:
        known = (*SUFFIXES, ".gguf")
        if path.suffix.lower() not in known:
            raise UsageError(
                f"{source}: no source of weights; it must be one of {', '.join(known)}"
            )
        return Location(path.parent, path, *_hub_origin(path.parent))
    match = _REPOSITORY.fullmatch(source)
    if match and not source.startswith("."):
        repo, wanted = match[1], revision or match[2]
        return locate_repository(repo, wanted, ask)
    raise UsageError(
        f"{source}: no such folder or file; name a checkpoint's folder, a .gguf, or owner/repo"
    )


def locate_repository(
    repo: str, revision: str | None = None, ask: Ask = HubRepository.ask
) -> Location:
    """``owner/repo`` alone: in Hugging Face's cache if it is whole there, else on the Hub."""
    return _cached(repo, revision) or _remote(repo, revision, ask)


def _snapshot_in(folder: Path) -> Path:
    """The folder itself; of a repository in Hugging Face's cache (``models--owner--name``), the
    snapshot that its main branch means, else the only one."""
    snapshots = folder / "snapshots"
    if not (real(folder).name.startswith("models--") and snapshots.is_dir()):
        return folder
    try:
        commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    if _COMMIT.fullmatch(commit) and (snapshots / commit).is_dir():
        return snapshots / commit
    found = [path for path in snapshots.glob("*") if path.is_dir()]
    if len(found) != 1:
        raise UsageError(
            f"{folder}: a repository with {len(found)} snapshots, none of them its main branch; "
            "name one of the folders in its snapshots"
        )
    return found[0]


def _cached(repo: str, revision: str | None) -> Location | None:
    """The repository, if all that a conversion needs is in Hugging Face's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError, ValueError):
        return None
    return Location(folder, None, repo, folder.name) if _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    local = LocalFolder(folder)
    try:
        return all(map(local.has, ("config.json", *find_weights(local).names)))
    except BadCheckpoint:
        return False


def _remote(repo: str, revision: str | None, ask: Ask) -> Location:
    try:
        repository = ask(repo, revision)
        folder = repository.fetch_small()
    except NetworkError as error:
        raise NetworkError(
            f"{repo}: not whole on this disk, nor to be had from the Hub: {_reason(error, repo)}"
        ) from error
    except ModelNotFound as error:
        raise ModelNotFound(
            f"{repo}: no such folder on this disk, and on the Hub: {_reason(error, repo)}"
        ) from error
    return Location(folder, None, repository.repo, repository.commit, repository)


def _reason(error: Exception, repo: str) -> str:
    return str(error).removeprefix(f"{repo}: ")


def _hub_origin(folder: Path) -> tuple[str | None, str | None]:
    """Repository and commit, as Hugging Face's cache or ``hf download --local-dir`` note them."""
    parts = real(folder).parts
    if len(parts) > 3 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].removeprefix("models--").replace("--", "/", 1), parts[-1]
    note = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    try:
        commit = note.read_text(encoding="utf-8").split("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return None, None
    return None, commit if _COMMIT.fullmatch(commit) else None
