"""A repository of the Hub at one commit: what files it has, and the small ones on this disk."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from huggingface_hub import (
    HfApi,
    ModelInfo,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from fwlocal.errors import ModelNotFound, NetworkError
from fwlocal.hub.client import endpoint_or_default, explained, persistently, set_up
from fwlocal.hub.remote_file import HubFile, RemoteFile

MAX_SMALL_BYTES = 64 << 20
WAITS_S = (0.3, 1.0, 3.0)  # before another try, after an answer that may pass


@dataclass(frozen=True)
class Snapshot:
    """A repository at ``commit``, which ``revision`` meant when it was asked for. Files with a name
    that is no plain path are left out."""

    repo: str
    revision: str
    commit: str
    licence: str
    files: Mapping[str, HubFile] = field(repr=False)
    endpoint: str = ""
    n_params: int = 0  # 0 where the Hub does not tell
    reason: NetworkError | None = None  # why only what is on this disk is known

    def open(self, name: str) -> RemoteFile:
        """The file called ``name``. Raises ModelNotFound with the nearest names."""
        return RemoteFile(self.repo, self.commit, self.file(name), self.endpoint)

    def file(self, name: str) -> HubFile:
        """What is known of a file. Raises ModelNotFound with the nearest names."""
        if name not in self.files:
            if self.reason is not None:
                raise self.reason
            near = difflib.get_close_matches(name, self.files, n=3, cutoff=0.4)
            offer = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ModelNotFound(f"{self.repo}: no file is called {name}{offer}")
        return self.files[name]


def snapshot(
    repo: str,
    revision: str = "main",
    endpoint: str | None = None,
    waits_s: Sequence[float] = WAITS_S,
) -> Snapshot:
    """The repository's files at ``revision``, which is resolved to a commit here and only here.

    Raises ModelNotFound with the nearest names, NetworkError, or UsageError for no name at all.
    """
    where = endpoint_or_default(endpoint)
    api = HfApi(endpoint=where)
    set_up()

    def ask() -> Snapshot:
        with explained(repo, where, lambda: _nearest(api, repo, revision)):
            info = api.model_info(
                repo, revision=revision, files_metadata=True, timeout=HF_HUB_ETAG_TIMEOUT
            )
            return _snapshot(info, repo, revision, where)

    return persistently(ask, waits_s)


def snapshot_or_cached(repo: str, revision: str = "main") -> Snapshot:
    """The same, or where the Hub cannot be asked, what its cache on this disk has: then with the
    ``reason``."""
    try:
        return snapshot(repo, revision)
    except NetworkError as error:
        there = _cached_snapshot(repo, revision, endpoint_or_default(None), error)
        if there is None:
            raise
        return there


def _cached_snapshot(
    repo: str, revision: str, endpoint: str, reason: NetworkError
) -> Snapshot | None:
    """What Hugging Face's cache on this disk has of the revision, None for nothing."""
    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError, ValueError):
        return None
    files = {
        name: HubFile(name, path.stat().st_size, sha256_in(path), "")
        for path in folder.rglob("*")
        if path.is_file() and is_plain(name := path.relative_to(folder).as_posix())
    }
    return Snapshot(repo, revision, folder.name, "", files, endpoint, reason=reason)


def sha256_in(path: Path) -> str | None:
    """The SHA-256 that a file of Hugging Face's cache must have: the name of its blob."""
    blob = path.resolve().name
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else None


def _snapshot(info: ModelInfo, repo: str, revision: str, endpoint: str) -> Snapshot:
    """What the answer says, if it is one; raises what Python does where it is none."""
    names = [str(s.rfilename) for s in info.siblings or ()]
    files = {
        s.rfilename: HubFile(
            s.rfilename, s.size, s.lfs.sha256 if s.lfs else None, str(s.blob_id or "")
        )
        for s in info.siblings or ()
        if is_plain(s.rfilename) and type(s.size) is int and s.size >= 0
    }
    if not files and any(map(is_plain, names)):
        raise NetworkError(
            f"{repo}: {urlsplit(endpoint).hostname} tells no sizes of files; set HF_ENDPOINT to a "
            "Hub that does"
        )
    n_params = info.safetensors.total if info.safetensors else 0
    return Snapshot(repo, revision, str(info.sha), _licence(info), files, endpoint, int(n_params))


def _licence(info: ModelInfo) -> str:
    """As the card names it; where it has a name of its own, with the kind."""
    card = info.card_data
    kind, own = (str(card.get(key) or "") if card else "" for key in ("license", "license_name"))
    if not own or own == kind:
        return kind
    return own if kind in ("", "other") else f"{own} ({kind})"


def is_plain(name: str) -> bool:
    """Whether a file's name stays inside its folder, on every platform."""
    windows = PureWindowsPath(name)
    return (
        name.isprintable()
        and 0 < len(name.encode()) < 256
        and not PurePosixPath(name).is_absolute()
        and not windows.drive
        and not windows.root
        and ".." not in windows.parts
    )


def _nearest(api: HfApi, repo: str, revision: str) -> str:
    """What there is of a similar name: branches of a repository, or its owner's repositories."""
    owner, _, name = repo.partition("/")
    try:
        if revision != "main":
            refs = api.list_repo_refs(repo)
            names = [ref.name for ref in (*refs.branches, *refs.tags)]
            return f"the branches and tags are {', '.join(names[:8])}"
        known = [model.id for model in api.list_models(author=owner, limit=500)]
        known += [model.id for model in api.list_models(search=name, limit=20)]
    except Exception:  # an offer, not worth an error of its own
        return ""
    near = difflib.get_close_matches(repo, dict.fromkeys(known), n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def fetch_small(source: Snapshot, names: Iterable[str], waits_s: Sequence[float] = WAITS_S) -> Path:
    """Small files, in Hugging Face's own cache: the folder of the snapshot there."""
    wanted = [name for name in names if source.file(name).size_bytes <= MAX_SMALL_BYTES]
    if not wanted:
        raise ModelNotFound(
            f"{source.repo}: no checkpoint is in it (config.json, weights); a repository of GGUFs "
            "is for `fwlocal pull`"
        )
    set_up()
    for name in wanted:

        def fetch(name: str = name) -> str:
            with explained(source.repo, source.endpoint):
                return hf_hub_download(
                    source.repo, name, revision=source.commit, endpoint=source.endpoint
                )

        path = persistently(fetch, waits_s)
    return Path(path).parents[name.count("/")]


def cached(repo: str, name: str, revision: str) -> Path | None:
    """The file in Hugging Face's cache on this disk, if it is there; needs no network."""
    found = try_to_load_from_cache(repo, name, revision=revision)
    return Path(found) if isinstance(found, str) else None
