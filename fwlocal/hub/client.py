"""The Hub over HTTP, as huggingface_hub is configured: endpoint, token, proxies, offline mode.

Every failure becomes one line of ours; neither a token nor a signed link is ever part of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import httpcore2
import httpx2
from huggingface_hub import constants, get_session, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from huggingface_hub.utils._headers import build_hf_headers

from fwlocal import __version__
from fwlocal.errors import FwlocalError, ModelNotFound, NetworkError, UsageError

T = TypeVar("T")
log = logging.getLogger(__name__)

# What parsing an answer raises that is none of a Hub.
NONSENSE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
READ_BYTES = 1 << 20
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
LOG_IN = "log in (`hf auth login`, or HF_TOKEN)"


def set_up() -> None:
    """Before anything is asked. huggingface_hub's own bars and warnings would run through ours; and
    httpcore2 reads 64 KiB at a time, which costs more than a fast network: 4.0 s of one core for
    1 GB over loopback, 1.4 s by 1 MiB."""
    httpcore2.HTTP11Connection.READ_NUM_BYTES = READ_BYTES
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()


def endpoint_or_default(endpoint: str | None) -> str:
    """Where the Hub is: HF_ENDPOINT, unless told otherwise. Raises UsageError for no address."""
    where: str = (endpoint or constants.ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(where)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx2.URL(where)
    except (ValueError, httpx2.InvalidURL):
        sound = False
    if not sound:
        raise UsageError(f"HF_ENDPOINT is {where!r}, no address of a Hub; mend or unset it")
    return where


def headers_for(url: str, endpoint: str) -> dict[str, str]:
    """Who asks; the user's token only where the Hub itself is asked, never a CDN."""
    own = urlsplit(url).netloc == urlsplit(endpoint).netloc
    headers: dict[str, str] = build_hf_headers(
        token=None if own else False, library_name="fwlocal", library_version=__version__
    )
    return {**headers, "Accept-Encoding": "identity"}


@contextlib.contextmanager
def get_range(
    url: str, headers: dict[str, str], first: int, last: int
) -> Iterator[httpx2.Response]:
    """The open answer to a request for the bytes ``first`` to ``last`` of ``url``. Where that leads
    to another host, httpx2 leaves the token behind."""
    wanted = {**headers, "Range": f"bytes={first}-{last}"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream(
        "GET", url, headers=wanted, timeout=timeout, follow_redirects=True
    ) as response:
        yield response


@contextlib.contextmanager
def explained(
    repo: str,
    endpoint: str,
    nearest: Callable[[], str] = lambda: "",
) -> Iterator[None]:
    """Turn what goes wrong inside into one line about ``repo``. ``nearest`` names what may have
    been meant, and may ask the Hub."""
    try:
        yield
    except LocalEntryNotFoundError as error:  # of a small file: it wraps what went wrong
        raise _wrapped(error, repo, endpoint) from error
    except (HfHubHTTPError, HFValidationError, EntryNotFoundError) as error:
        raise _answer(error, repo, endpoint, nearest) from error
    except (OfflineModeIsEnabled, httpx2.HTTPError) as error:
        raise unreachable(error, repo, endpoint) from error
    except NONSENSE as error:  # a page to log in to some network, for one
        raise NetworkError(
            f"{repo}: what answers is no Hub; check the network (a page to log in?), proxies and "
            "HF_ENDPOINT"
        ) from error


def _wrapped(error: Exception, repo: str, endpoint: str) -> NetworkError:
    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError):
        return refused(cause.response.status_code, repo, endpoint)
    return unreachable(cause if isinstance(cause, Exception) else error, repo, endpoint)


def _answer(error: Exception, repo: str, endpoint: str, nearest: Callable[[], str]) -> FwlocalError:
    """What the Hub's answer means for the user."""
    if isinstance(error, HFValidationError):
        return UsageError(f"{repo}: no name of a repository; it must be owner/name")
    if isinstance(error, GatedRepoError):
        known = "your token has no access to it" if get_token() else f"then {LOG_IN}"
        return NetworkError(
            f"{repo}: gated: its owner must let you in; accept the terms at {endpoint}/{repo}, "
            f"{known}"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(f"{repo}: no such revision; {nearest() or 'name a branch or commit'}")
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFound(
            f"{repo}: no such repository{nearest()}; check the name, or {LOG_IN} if it is private"
        )
    if isinstance(error, EntryNotFoundError):
        return ModelNotFound(f"{repo}: no such file{nearest()}")
    response = getattr(error, "response", None)
    return refused(response.status_code if response is not None else 0, repo, endpoint)


def persistently(ask: Callable[[], T], waits_s: Sequence[float]) -> T:
    """What ``ask`` returns, asked again after each wait while the answer is one that may pass."""
    for wait_s in waits_s:
        try:
            return ask()
        except NetworkError as error:
            if status_of(error) not in TRANSIENT:
                raise
            log.warning("%s; trying again", str(error).rsplit(": ", 1)[0])
            time.sleep(wait_s)
    return ask()


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error comes from, down the chain of its causes."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return None


def refused(status: int, repo: str, endpoint: str) -> NetworkError:
    """An answer with a status that is no success."""
    remedies = {
        401: f"your token is not valid; {LOG_IN} again",
        403: f"you may not read it; accept its terms at {endpoint}/{repo} or {LOG_IN}",
        429: f"too many requests; wait some minutes, or {LOG_IN}: the limit is then higher",
    }
    remedy = remedies.get(status, "try again later; what was fetched is kept")
    return NetworkError(f"{repo}: the Hub answers with {status}: {remedy}")


def unreachable(error: Exception, repo: str, endpoint: str) -> NetworkError:
    """No answer at all."""
    kept = "what was fetched is kept, and the same command goes on"
    if isinstance(error, OfflineModeIsEnabled):
        return NetworkError(f"{repo}: HF_HUB_OFFLINE is set and it is not on this disk; unset it")
    host = urlsplit(endpoint).hostname
    if _is_dns(error):
        return NetworkError(
            f"{repo}: the name {host} cannot be resolved; check the network, DNS and HF_ENDPOINT; "
            f"{kept}"
        )
    if isinstance(error, httpx2.TimeoutException):
        return NetworkError(f"{repo}: {host} does not answer in time; {kept}")
    if isinstance(error, httpx2.ConnectError):
        return NetworkError(
            f"{repo}: {host} cannot be reached; check the network, proxies and HF_ENDPOINT; {kept}"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    return NetworkError(f"{repo}: the connection broke ({reason}); {kept}")


def _is_dns(error: BaseException | None) -> bool:
    """Whether a name could not be resolved, somewhere down the chain of causes."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False
