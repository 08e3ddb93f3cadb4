"""One file of a repository, read by exact HTTP ranges, across cuts, stalls and expired links.

What is read is one version: the commit stands in the address, and each answer's ETag and length are
held against the first one's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
from huggingface_hub import get_hf_file_metadata, hf_hub_url

from fwlocal.errors import NetworkError
from fwlocal.hub.client import (
    TRANSIENT,
    explained,
    get_range,
    headers_for,
    log,
    refused,
    unreachable,
)

if TYPE_CHECKING:
    from huggingface_hub.utils._xet import XetFileData

# Seconds before each try in a row that brings nothing; some two minutes in all.
WAITS_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
TOLD_FROM_S = 2.0
MAX_EXPIRED = 3
EXPIRED = (401, 403, 404, 410)  # what a CDN says to a signed link that is too old


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it; ``sha256`` of the content where it is a large one (LFS, Xet),
    ``blob_id`` is git's own hash."""

    name: str
    size_bytes: int
    sha256: str | None
    blob_id: str

    @property
    def etag(self) -> str:
        """The ETag that the Hub gives it."""
        return self.sha256 or self.blob_id


@dataclass
class _Link:
    """Where the bytes are for now, the headers to ask with, and the ETag seen there."""

    url: str
    headers: dict[str, str]
    xet: XetFileData | None
    etag: str | None = None


class _Again(Exception):
    """Worth another try, after ``wait_s`` if the server names a time; ``final`` is what to say when
    there is none left."""

    def __init__(
        self, final: NetworkError, wait_s: float | None = None, *, expired: bool = False
    ) -> None:
        super().__init__()
        self.final = final
        self.wait_s = wait_s
        self.expired = expired


class RemoteFile:
    """One file at one commit; for any number of threads."""

    def __init__(
        self,
        repo: str,
        commit: str,
        file: HubFile,
        endpoint: str,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self.repo, self.commit, self.file, self.endpoint = repo, commit, file, endpoint
        self._waits_s = waits_s
        self._link: _Link | None = None
        self._linking = threading.Lock()

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.file.name

    @property
    def size_bytes(self) -> int:
        """Of the content."""
        return self.file.size_bytes

    @property
    def sha256(self) -> str | None:
        """Of the content, where the Hub tells it."""
        return self.file.sha256

    @property
    def identity(self) -> tuple[str, ...]:
        """Changes when the content does."""
        return (self.repo, self.name, str(self.size_bytes), self.file.etag)

    def find_xet(self) -> XetFileData | None:
        """What Xet needs to know to bring it, where the Hub keeps it so. Raises NetworkError."""
        try:
            return self._current_link().xet
        except _Again as again:
            raise again.final from again.__cause__

    def read_into(self, view: memoryview, offset: int, stop: threading.Event | None = None) -> None:
        """Fill ``view`` from ``offset``. Raises NetworkError when tries in a row bring nothing,
        and when the file is no longer the same; returns early once ``stop`` is set."""
        stop = stop or threading.Event()
        done = n_expired = 0
        waits = iter(self._waits_s)
        while done < len(view) and not stop.is_set():
            try:
                for chunk in self._chunks(offset + done, offset + len(view) - 1):
                    view[done : done + len(chunk)] = chunk
                    done += len(chunk)
                    waits, n_expired = iter(self._waits_s), 0
                    if stop.is_set():
                        return
            except _Again as again:
                wait_s = next(waits, None)
                n_expired += again.expired
                if wait_s is None or n_expired > MAX_EXPIRED:
                    raise again.final from again.__cause__
                wait_s = again.wait_s or wait_s
                if wait_s >= TOLD_FROM_S:
                    reason = str(again.final).split("; ")[0]
                    log.warning("%s; trying again in %.0f s", reason, wait_s)
                stop.wait(wait_s)

    def _chunks(self, first: int, last: int) -> Iterator[bytes]:
        """The bytes from ``first`` to ``last`` of one answer, as they come; it may end early."""
        link = self._current_link()
        try:
            with get_range(link.url, link.headers, first, last) as response:
                self._check(response, link, first)
                left = last + 1 - first
                for chunk in response.iter_raw():
                    yield chunk[: max(left, 0)]
                    left -= len(chunk)
                    if left <= 0 and response.status_code == 200:
                        return  # a server that knows no ranges would go on
            if left <= 0:
                return
        except httpx2.TransportError as error:
            raise _Again(unreachable(error, self.repo, self.endpoint)) from error
        raise _Again(NetworkError(f"{self.repo}/{self.name}: the answer ended early; try again"))

    def _current_link(self) -> _Link:
        with self._linking:
            if self._link is None:
                self._link = self._find()
            return self._link

    def _find(self) -> _Link:
        """Ask the Hub where the file is, and whether it still is the same."""
        url = hf_hub_url(self.repo, self.name, revision=self.commit, endpoint=self.endpoint)
        try:
            with explained(self.repo, self.endpoint):
                found = get_hf_file_metadata(url, endpoint=self.endpoint)
        except NetworkError as error:
            cause = error.__cause__
            status = getattr(getattr(cause, "response", None), "status_code", None)
            if status in TRANSIENT or isinstance(cause, httpx2.TransportError):
                raise _Again(error, _retry_after(getattr(cause, "response", None))) from cause
            raise
        if found.size not in (None, self.size_bytes) or found.etag not in (None, self.file.etag):
            raise self._changed()
        if found.commit_hash not in (None, self.commit):
            raise self._changed()
        return _Link(
            found.location, headers_for(found.location, self.endpoint), found.xet_file_data
        )

    def _check(self, response: httpx2.Response, link: _Link, first: int) -> None:
        """Raise unless the answer holds the bytes from ``first`` of the very same file."""
        status = response.status_code
        if status in EXPIRED:
            with self._linking:
                if self._link is link:
                    self._link = None
            raise _Again(refused(status, self.repo, self.endpoint), expired=True)
        if status in TRANSIENT:
            wait_s = _retry_after(response)
            raise _Again(refused(status, self.repo, self.endpoint), wait_s)
        if status == 416:
            raise self._changed()
        if status != 206 and not (status == 200 and first == 0):
            if status == 200:
                raise NetworkError(f"{self.repo}/{self.name}: the server gives no ranges of files")
            raise refused(status, self.repo, self.endpoint)
        self._check_version(response, link, first)

    def _check_version(self, response: httpx2.Response, link: _Link, first: int) -> None:
        if response.status_code == 206:
            wanted = (f"bytes {first}-", f"/{self.size_bytes}")
            told = response.headers.get("Content-Range", "")
            if not (told.startswith(wanted[0]) and told.endswith((wanted[1], "/*"))):
                raise self._changed()
        etag = response.headers.get("ETag")
        if etag is not None:
            link.etag = link.etag or etag
            if link.etag != etag:
                raise self._changed()

    def _changed(self) -> NetworkError:
        return NetworkError(
            f"{self.repo}/{self.name}: has changed on the server meanwhile; run the command again, "
            "to begin with what is there now"
        )


def _retry_after(response: httpx2.Response | None) -> float | None:
    """Seconds that the server asks for, at most five minutes."""
    text = "" if response is None else response.headers.get("Retry-After", "")
    return min(float(text), 300.0) if text.isdecimal() else None
