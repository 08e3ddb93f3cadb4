"""A Hub on loopback: repositories, files and planned faults, for the real client and for ours.

It speaks the download protocol of the Hugging Face Hub, as huggingface_hub's ``file_download.py``,
``hf_api.py`` and ``utils/_http.py`` (2.4) read it: the JSON of models, refs and searches, HEAD and
GET of files with their ``X-`` headers, a redirect of large files to a second listener (the "CDN")
by links that expire. It knows nothing of uploads, of Xet's own protocol and of TLS.

    with HubServer() as server:
        server.add("owner/name", {"config.json": b"{}", "model.gguf": path})
        server.plan(Fault(path="model.gguf", after_bytes=1000))
        ...  # any client of server.endpoint
        assert server.sent_bytes < 2 * size

``python -m tests.hub_server FOLDER`` serves FOLDER/owner/name/files until Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pth", ".model")
_PIECE = 1 << 20  # bytes of a file handed to the kernel at once
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_NAME = r"/([^/]+/[^/]+)"
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next ``times`` matching requests, after ``skip`` good ones.

    A request matches by method ("" is any), listener and a part of the file's name. Requests of the
    API match only a ``path`` that is a part of theirs, such as "/api/models". ``after_bytes`` and
    ``flip_byte`` match only answers that carry a file (no redirect), the latter only those that
    carry that byte.
    """

    path: str = ""
    method: str = "GET"
    skip: int = 0
    times: int = 1
    status: int | None = None  # 200 ignores a Range; any other replaces the answer
    headers: Mapping[str, str] = field(default_factory=dict)  # added to the answer's
    after_bytes: int | None = None  # of the body; then the connection is lost
    hard: bool = True  # it is reset; else closed, as a proxy does that gives up
    stall_s: float = 0.0  # before the answer, or between after_bytes and the reset
    flip_byte: int | None = None  # offset in the file of a byte sent wrong
    etag: str | None = None  # another ETag than the file's
    where: str = "any"  # hub, cdn, any


@dataclass(frozen=True)
class Seen:
    """A request, and its answer: ``path`` is unquoted, ``sent_bytes`` are a file's alone."""

    method: str
    path: str
    range: str | None
    status: int
    sent_bytes: int
    authorization: str | None
    where: str


@dataclass(frozen=True)
class _Blob:
    """A file's contents; ``etag`` is the sha256 of an LFS file, else git's sha1."""

    content: bytes | Path
    size: int
    sha256: str
    etag: str
    blob_id: str
    pointer_size: int | None  # of LFS files only

    def open(self) -> BinaryIO:
        content = self.content
        return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


@dataclass
class _Repo:
    commits: dict[str, dict[str, _Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    licence: str | None = None
    xet: bool = False


@dataclass(frozen=True)
class _Request:
    method: str
    where: str
    path: str  # still quoted
    query: Mapping[str, list[str]]
    headers: Message

    @property
    def token(self) -> str | None:
        authorization = self.headers["Authorization"]
        return None if authorization is None else authorization.removeprefix("Bearer ")


@dataclass(frozen=True)
class _Answer:
    """``blob[start:stop]`` is the body where there is a blob; ``name`` is what faults match."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    name: str = ""
    blob: _Blob | None = None
    start: int = 0
    stop: int = 0


class _Refused(Exception):
    """The Hub's way of saying no."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        error = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = _Answer(status, {**error, **named}, json.dumps({"error": message}).encode())


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(content: bytes | Path) -> str:
    digest = hashlib.sha256()
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _blob(name: str, content: bytes | Path, sha256: Callable[[bytes | Path], str]) -> _Blob:
    digest = sha256(content)
    if isinstance(content, bytes) and not name.endswith(LFS_SUFFIXES):
        git = _git_sha1(content)
        return _Blob(content, len(content), digest, git, git, None)
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    return _Blob(content, size, digest, digest, _git_sha1(pointer.encode()), len(pointer))


def _span(text: str, size: int) -> tuple[int, int] | None:
    """The bytes a Range header asks for: empty beyond the end, None where it makes no sense."""
    match = _RANGE.fullmatch(text.strip())
    first, last = match.groups() if match else ("", "")
    if first and last and int(last) < int(first):
        return None
    if first:
        return int(first), min(int(last) + 1, size) if last else size
    return (max(size - int(last), 0), size) if last else None


def _ranged(answer: _Answer, request: _Request) -> _Answer:
    """What of the file is sent: all, a part (206), nothing beyond the end (416) or at all (412)."""
    if answer.blob is None:
        return answer
    etag, size = answer.headers["ETag"], answer.blob.size
    wanted = [tag.strip() for tag in request.headers.get("If-Match", "*").split(",")]
    if "*" not in wanted and etag not in wanted:
        return replace(answer, status=412, blob=None)
    span = None
    if request.method == "GET" and request.headers.get("If-Range", etag) == etag:
        span = _span(request.headers.get("Range", ""), size)
    if span is None:
        return replace(answer, status=200, start=0, stop=size)
    start, stop = span
    if start >= stop:
        headers = {**answer.headers, "Content-Range": f"bytes */{size}"}
        return replace(answer, status=416, blob=None, headers=headers)
    headers = {**answer.headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return replace(answer, status=206, headers=headers, start=start, stop=stop)


def _hits(fault: Fault, request: _Request, answer: _Answer) -> bool:
    api = answer.name.startswith("/api/")
    if fault.path not in answer.name or (api and not fault.path):
        return False
    if fault.method not in ("", request.method) or fault.where not in ("any", request.where):
        return False
    if fault.flip_byte is not None:
        return answer.blob is not None and answer.start <= fault.flip_byte < answer.stop
    return fault.after_bytes is None or answer.blob is not None


def _spoiled(fault: Fault, request: _Request, answer: _Answer) -> _Answer:
    """The answer with those of the fault's wrongs that stand in its head."""
    if fault.status == 200:
        request = replace(request, headers=Message())
    elif fault.status is not None:
        return replace(
            answer, status=fault.status, headers=fault.headers, body=b"planned", blob=None
        )
    headers = {**answer.headers, **fault.headers}
    if fault.etag is not None:
        tags = {"ETag", "X-Linked-Etag"} & set(headers)
        headers.update(dict.fromkeys(tags, f'"{fault.etag}"'))
    return _ranged(replace(answer, headers=headers), request)


class _Site:
    """What the Hub knows and answers, without a socket."""

    endpoint = ""
    cdn = ""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.granted: set[tuple[str, str]] = set()  # token, repository
        self._repos: dict[str, _Repo] = {}
        self._blobs: dict[str, _Blob] = {}  # the CDN's, by sha256
        self._digests: dict[tuple[Path, int, int], str] = {}
        self._links_made = 0  # generation of the links that are valid

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        revision: str = "main",
        gated: bool = False,
        private: bool = False,
        licence: str | None = None,
        xet: bool = False,
    ) -> str:
        """Add a commit of exactly these files, point the branch at it, and return its hash.

        A Path, and any name of LFS_SUFFIXES, is an LFS file; a Path is read when it is served. The
        last call decides whether the repository is gated, private, licensed, on Xet.
        """
        blobs = {name: _blob(name, content, self._digest) for name, content in files.items()}
        self._blobs.update({b.sha256: b for b in blobs.values() if b.pointer_size is not None})
        tree = [repo, *sorted(f"{name}\0{blob.sha256}" for name, blob in blobs.items())]
        commit = hashlib.sha1("\n".join(tree).encode("utf-8", "surrogatepass")).hexdigest()
        old = self._repos.get(repo, _Repo())
        commits, branches = {**old.commits, commit: blobs}, {**old.branches, revision: commit}
        self._repos[repo] = _Repo(commits, branches, gated, private, licence, xet)
        return commit

    def expire_links(self) -> None:
        """Make every link to the CDN that was handed out so far answer 403."""
        self._links_made += 1

    def _digest(self, content: bytes | Path) -> str:
        if isinstance(content, bytes):
            return _sha256(content)
        status = content.stat()
        key = (content, status.st_size, status.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = _sha256(content)
        return self._digests[key]

    def answer(self, request: _Request) -> _Answer:
        """The whole answer to a request, before its Range and any fault."""
        name = unquote(request.path)
        try:
            for pattern, method in _ROUTES[request.where]:
                if match := re.fullmatch(pattern, request.path):
                    parts = [unquote(part) for part in match.groups()]
                    if not request.path.startswith("/api/"):
                        name = parts[-1]
                    found: _Answer = getattr(self, method)(request, *parts)
                    return replace(found, name=name)
            raise _Refused(404, "", "Not Found")
        except _Refused as refused:
            return replace(refused.answer, name=name)

    def _repo(self, request: _Request, name: str) -> _Repo:
        token = request.token
        if token is not None and token not in self.tokens:
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        repo = self._repos.get(name)
        if repo is None or (repo.private and token and (token, name) not in self.granted):
            raise _Refused(404, "RepoNotFound", "Repository not found")
        if repo.private and token is None:
            raise _Refused(401, "RepoNotFound", "Invalid username or password.")
        return repo

    def _commit(self, repo: _Repo, revision: str) -> str:
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {quote(revision)}")
        return commit

    def _list(self, request: _Request) -> _Answer:
        wanted = {name: request.query.get(name, [""])[0] for name in ("search", "author", "limit")}
        tags = set(request.query.get("filter", []))
        found = []
        for name, repo in list(self._repos.items()):
            shown = not repo.private or (request.token, name) in self.granted
            owner = wanted["author"] in ("", name.split("/")[0])
            if shown and owner and wanted["search"].lower() in name.lower():
                found.append(_summary(name, repo, repo.branches.get("main", "")))
        found = [item for item in found if tags <= set(item["tags"])]
        return _json(found[: int(wanted["limit"] or len(found))])

    def _info(self, request: _Request, name: str, revision: str = "main") -> _Answer:
        repo = self._repo(request, name)
        commit = self._commit(repo, revision)
        blobs = request.query.get("blobs", [""])[0].lower() in ("true", "1")
        files = repo.commits[commit].items()
        siblings = [_sibling(file, blob) if blobs else {"rfilename": file} for file, blob in files]
        gated = "manual" if repo.gated else False
        return _json({**_summary(name, repo, commit), "gated": gated, "siblings": siblings})

    def _tree(self, request: _Request, name: str, revision: str) -> _Answer:
        repo = self._repo(request, name)
        files = repo.commits[self._commit(repo, revision)].items()
        return _json([_leaf(file, blob) for file, blob in files])

    def _refs(self, request: _Request, name: str) -> _Answer:
        refs: dict[str, list[dict[str, str]]] = {
            key: [] for key in ("branches", "converts", "tags", "pullRequests")
        }
        folders = {"refs/pr/": "pullRequests", "refs/convert/": "converts", "refs/tags/": "tags"}
        for branch, commit in self._repo(request, name).branches.items():
            kind = next((kind for start, kind in folders.items() if branch.startswith(start)), "")
            ref = branch if kind else f"refs/heads/{branch}"
            short = branch.removeprefix("refs/convert/").removeprefix("refs/tags/")
            found = {"name": short, "ref": ref, "targetCommit": commit}
            refs[kind or "branches"].append(found)
        return _json(refs)

    def _whoami(self, request: _Request) -> _Answer:
        if request.token not in self.tokens:
            raise _Refused(401, "", "Invalid username or password.")
        access = {"displayName": "test", "role": "read"}
        return _json({"type": "user", "name": "tester", "auth": {"accessToken": access}})

    def _resolve(self, request: _Request, name: str, revision: str, file: str) -> _Answer:
        repo = self._repo(request, name)
        if repo.gated and (request.token or "", name) not in self.granted:
            message = f"Access to model {name} is restricted."
            raise _Refused(403 if request.token else 401, "GatedRepo", message)
        commit = self._commit(repo, revision)
        blob = repo.commits[commit].get(file)
        if blob is None:
            raise _Refused(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        headers = _file_headers(blob) | {"X-Repo-Commit": commit}
        if blob.pointer_size is None:
            return _Answer(200, headers, blob=blob)
        headers["X-Linked-Etag"] = headers["ETag"]
        headers["X-Linked-Size"] = str(blob.size)
        if repo.xet:
            headers["X-Xet-Hash"] = hashlib.sha256(b"xet" + blob.sha256.encode()).hexdigest()
            route = f"{self.endpoint}/api/models/{name}/xet-read-token/{commit}"  # answers 404
            headers["Link"] = f'<{route}>; rel="xet-auth"'
        signed = f"Expires={int(time.time()) + 3600}&Signature={self._signature(blob.sha256)}"
        headers["Location"] = f"{self.cdn}/{blob.sha256}/{quote(file, safe='')}?{signed}"
        return _Answer(302, headers)

    def _signature(self, sha256: str) -> str:
        return hashlib.sha256(f"{sha256} {self._links_made}".encode()).hexdigest()[:32]

    def _link(self, request: _Request, sha256: str, name: str) -> _Answer:
        if request.query.get("Signature") != [self._signature(sha256)]:
            raise _Refused(403, "", "Request has expired")
        blob = self._blobs[sha256]
        return _Answer(200, _file_headers(blob), blob=blob)


_ROUTES = {
    "hub": [
        ("/api/models", "_list"),
        ("/api/whoami-v2", "_whoami"),
        (f"/api/models{_NAME}", "_info"),
        (f"/api/models{_NAME}/revision/([^/]+)", "_info"),
        (f"/api/models{_NAME}/tree/([^/]+)", "_tree"),
        (f"/api/models{_NAME}/refs", "_refs"),
        (f"{_NAME}/resolve/([^/]+)/(.+)", "_resolve"),
    ],
    "cdn": [("/([0-9a-f]{64})/([^/]+)", "_link")],
}


def _json(data: object) -> _Answer:
    return _Answer(200, {"Content-Type": "application/json"}, json.dumps(data).encode())


def _file_headers(blob: _Blob) -> dict[str, str]:
    kind = "text/plain" if blob.pointer_size is None else "application/octet-stream"
    return {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", "Content-Type": kind}


def _summary(name: str, repo: _Repo, commit: str) -> dict[str, Any]:
    endings = {file.rpartition(".")[2] for file in repo.commits.get(commit, {})}
    tags = sorted({"gguf", "safetensors"} & endings)
    card = {"license": repo.licence} if repo.licence else {}
    return {
        "id": name,
        "modelId": name,
        "author": name.split("/")[0],
        "sha": commit,
        "private": repo.private,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [*tags, *(f"{key}:{value}" for key, value in card.items())],
        "createdAt": "2024-01-01T00:00:00.000Z",
        "lastModified": "2024-01-01T00:00:00.000Z",
        "cardData": card,
    }


def _sibling(name: str, blob: _Blob) -> dict[str, Any]:
    found = {"rfilename": name, "size": blob.size, "blobId": blob.blob_id}
    lfs = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return found if blob.pointer_size is None else {**found, "lfs": lfs}


def _leaf(name: str, blob: _Blob) -> dict[str, Any]:
    found = {"type": "file", "path": name, "size": blob.size, "oid": blob.blob_id}
    lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return found if blob.pointer_size is None else {**found, "lfs": lfs}


class HubServer(_Site):
    """The Hub at ``endpoint`` and its CDN, while the context is open."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self._port = port
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._sent_bytes = 0
        self._cuts: list[int] = []
        self._cuts_done = 0
        self._cut_hard = True
        self._faults: list[tuple[Fault, int]] = []  # with the matching requests so far
        self._closing = threading.Event()
        self._listeners: list[_Listener] = []

    def __enter__(self) -> HubServer:
        for where, port in (("hub", self._port), ("cdn", 0)):
            self._listeners.append(_Listener(self, where, port))
        self.endpoint, self.cdn = (listener.url for listener in self._listeners)
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        for listener in self._listeners:
            listener.close()

    def plan(self, *faults: Fault) -> None:
        """Let these go wrong; a request meets the first that matches and is due."""
        with self._lock:
            self._faults += [(fault, 0) for fault in faults]

    def forget_faults(self) -> None:
        """Let nothing more go wrong."""
        with self._lock:
            self._faults.clear()

    def cut(self, n_bytes_list: Iterable[int], *, hard: bool = True) -> None:
        """Reset, or close, all connections that carry a file as ``sent_bytes`` reaches each number.

        huggingface_hub 2.4 itself goes on after a connection closed too early, not after a reset.
        """
        with self._lock:
            self._cuts, self._cut_hard = sorted(n_bytes_list), hard

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return list(self._seen)

    @property
    def sent_bytes(self) -> int:
        """Bytes of files that were sent so far."""
        with self._lock:
            return self._sent_bytes

    def reset_counts(self) -> None:
        """Forget the requests and the bytes so far; cuts count from here."""
        with self._lock:
            self._seen, self._sent_bytes = [], 0

    def _due(self, request: _Request, answer: _Answer) -> Fault:
        with self._lock:
            for index, (fault, met) in enumerate(self._faults):
                if met < fault.skip + fault.times and _hits(fault, request, answer):
                    self._faults[index] = (fault, met + 1)
                    if met >= fault.skip:
                        return fault
        return Fault()

    def _note(self, request: _Request, status: int) -> Callable[[int], None]:
        """Write a request down; the function returned adds bytes to it."""
        headers = request.headers
        span, authorization = headers["Range"], headers["Authorization"]
        path = unquote(request.path)
        with self._lock:
            # A list of its own, lest a reset in between makes the index another request's.
            seen, index = self._seen, len(self._seen)
            seen.append(Seen(request.method, path, span, status, 0, authorization, request.where))

        def count(n_bytes: int) -> None:
            with self._lock:
                seen[index] = replace(seen[index], sent_bytes=seen[index].sent_bytes + n_bytes)
                if seen is self._seen:
                    self._sent_bytes += n_bytes

        return count

    def _before_cut(self, n_bytes: int) -> int:
        with self._lock:
            left = self._cuts[0] - self._sent_bytes if self._cuts else n_bytes
            return max(1, min(n_bytes, left))

    def _cuts_so_far(self) -> int:
        with self._lock:
            while self._cuts and self._sent_bytes >= self._cuts[0]:
                self._cuts.pop(0)
                self._cuts_done += 1
            return self._cuts_done


class _Listener(ThreadingHTTPServer):
    """One listening socket, its thread and its open connections."""

    request_queue_size = 128

    def __init__(self, hub: HubServer, where: str, port: int) -> None:
        self.hub = hub
        self.where = where
        self.to_reset: set[socket.socket] = set()
        self._connections: set[socket.socket] = set()
        self._connection_threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks DNS for a name

    def process_request(self, request: Any, client_address: Any) -> None:
        arguments = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, daemon=True)
        with self._lock:
            self._connections.add(request)
            alive = [thread for thread in self._connection_threads if thread.is_alive()]
            self._connection_threads = [*alive, thread]
            thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        if request not in self.to_reset:
            super().shutdown_request(request)
            return
        self.to_reset.discard(request)
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # the client went away, as clients do
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster
        for thread in self._connection_threads:
            thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Requests of one connection."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        query = parse_qs(url.query)
        request = _Request(self.command, self.server.where, url.path, query, self.headers)
        whole = hub.answer(request)
        fault = hub._due(request, _ranged(whole, request))
        answer = _spoiled(fault, request, whole)
        count = hub._note(request, answer.status)
        if fault.after_bytes is None and fault.stall_s and hub._closing.wait(fault.stall_s):
            self._lose(hard=True)
            return
        self._send_head(answer)
        if self.command == "GET" and answer.blob is None:
            self.wfile.write(answer.body)
        elif answer.blob is not None and self.command == "GET":
            self._send_file(answer.blob, answer.start, answer.stop, fault, count)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _send_head(self, answer: _Answer) -> None:
        n_bytes = len(answer.body) if answer.blob is None else answer.stop - answer.start
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(n_bytes)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(
        self, blob: _Blob, start: int, stop: int, fault: Fault, count: Callable[[int], None]
    ) -> None:
        hub = self.server.hub
        if fault.after_bytes is not None:
            stop = min(stop, start + fault.after_bytes)
        cuts = hub._cuts_so_far()
        with blob.open() as file:
            while start < stop and hub._cuts_so_far() == cuts:
                sent = self._send_piece(file, start, stop, fault.flip_byte, count)
                if not sent:  # the file shrank under us
                    self._lose(hard=True)
                    return
                start += sent
        if fault.after_bytes is not None:
            hub._closing.wait(fault.stall_s)
            self._lose(fault.hard)
        elif hub._cuts_so_far() != cuts:
            self._lose(hub._cut_hard)

    def _send_piece(
        self, file: BinaryIO, start: int, stop: int, flip: int | None, count: Callable[[int], None]
    ) -> int:
        """Send some bytes of a file and count them, before a client can see them."""
        if flip is not None and start <= flip < stop:
            stop = max(flip, start + 1)
        n_bytes = self.server.hub._before_cut(min(_PIECE, stop - start))
        count(n_bytes)
        sent: int = 0
        try:
            if start != flip and hasattr(os, "sendfile") and not isinstance(file, io.BytesIO):
                sent = os.sendfile(self.connection.fileno(), file.fileno(), start, n_bytes)
            else:
                file.seek(start)
                piece = file.read(n_bytes)
                sent = self.connection.send(piece if start != flip else bytes([piece[0] ^ 0xFF]))
        finally:
            count(sent - n_bytes)
        return sent

    def _lose(self, hard: bool) -> None:
        """End the connection, with a RST once the client's side has what was sent, or a FIN."""
        self.close_connection = True
        if hard:
            _drain(self.connection, self.server.hub._closing)
            self.server.to_reset.add(self.connection)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


def _drain(connection: socket.socket, closing: threading.Event) -> None:
    """Wait, a second at most, until the client's kernel has what was sent: a reset drops the rest.

    Only Linux tells; elsewhere a moment must do.
    """
    if sys.platform != "linux":
        closing.wait(0.05)
        return
    import fcntl
    import termios

    for _ in range(1000):
        unsent = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]
        if not unsent or closing.wait(0.001):
            return


def client_environment(server: HubServer, home: Path) -> dict[str, str]:
    """A whole environment for a process that talks to the server, with nothing of the user's own.

    Settings and tokens of the Hub are left out, and its folder is ``home``.
    """
    away = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "TRANSFORMERS_", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(away)}
    return {
        **kept,
        "HF_ENDPOINT": server.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }


def _serve_folder(folder: Path, server: HubServer) -> None:
    for repo in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        files: dict[str, bytes | Path] = {}
        for path in sorted(path for path in repo.rglob("*") if path.is_file()):
            large = path.name.endswith(LFS_SUFFIXES) or path.stat().st_size > _PIECE
            files[path.relative_to(repo).as_posix()] = path if large else path.read_bytes()
        server.add(f"{repo.parent.name}/{repo.name}", files)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hub_server", description="A Hub on loopback."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds owner/name/files")
    parser.add_argument("--port", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    with HubServer(arguments.port) as server:
        _serve_folder(arguments.folder, server)
        print(server.endpoint, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("closing", file=sys.stderr)


if __name__ == "__main__":
    main()
