"""A repository of the Hub at one commit: what files it has, and the small ones on this disk."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from huggingface_hub import HfApi, ModelInfo, hf_hub_download, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT

from fwlocal.errors import ModelNotFound, NetworkError
from fwlocal.hub.client import TRANSIENT, endpoint_or_default, explained, quiet
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

    def open(self, name: str) -> RemoteFile:
        """The file called ``name``. Raises ModelNotFound with the nearest names."""
        return RemoteFile(self.repo, self.commit, self.file(name), self.endpoint)

    def file(self, name: str) -> HubFile:
        """What is known of a file. Raises ModelNotFound with the nearest names."""
        if name not in self.files:
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
    info = _ask(api, repo, revision, waits_s)
    card = info.card_data
    licence = (card.get("license_name") or card.get("license") or "") if card else ""
    n_params = info.safetensors.total if info.safetensors else 0
    files = {
        s.rfilename: HubFile(
            s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None, s.blob_id or ""
        )
        for s in info.siblings or ()
        if is_plain(s.rfilename)
    }
    return Snapshot(repo, revision, info.sha or revision, str(licence), files, where, n_params)


def _ask(api: HfApi, repo: str, revision: str, waits_s: Sequence[float]) -> ModelInfo:
    """What the Hub says of the repository, asked again after an answer that may pass."""
    quiet()
    waits = iter(waits_s)
    while True:
        try:
            with explained(repo, api.endpoint, lambda: _nearest(api, repo, revision)):
                return api.model_info(
                    repo, revision=revision, files_metadata=True, timeout=HF_HUB_ETAG_TIMEOUT
                )
        except NetworkError as error:
            response, wait_s = getattr(error.__cause__, "response", None), next(waits, None)
            if wait_s is None or getattr(response, "status_code", None) not in TRANSIENT:
                raise
            time.sleep(wait_s)


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
            return f"there are {', '.join(names[:8])}"
        known = [model.id for model in api.list_models(author=owner, limit=500)]
        known += [model.id for model in api.list_models(search=name, limit=20)]
    except Exception:  # an offer, not worth an error of its own
        return ""
    near = difflib.get_close_matches(repo, dict.fromkeys(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def fetch_small(source: Snapshot, names: Iterable[str]) -> Path:
    """Small files, in Hugging Face's own cache: the folder of the snapshot there."""
    path = None
    quiet()
    with explained(source.repo, source.endpoint):
        for name in names:
            if source.file(name).size_bytes <= MAX_SMALL_BYTES:
                path = hf_hub_download(
                    source.repo, name, revision=source.commit, endpoint=source.endpoint
                )
                folder = Path(path).parents[name.count("/")]
    if path is None:
        raise ModelNotFound(f"{source.repo}: none of the files of a checkpoint is there")
    return folder


def cached(repo: str, name: str, revision: str) -> Path | None:
    """The file in Hugging Face's cache on this disk, if it is there; needs no network."""
    found = try_to_load_from_cache(repo, name, revision=revision)
    return Path(found) if isinstance(found, str) else None
