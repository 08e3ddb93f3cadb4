"""What the Hub knows and answers: repositories, commits, links that expire. No sockets."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tests.hub_server.messages import Answer, Blob, Refused, Repo, Request

LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pth", ".model")
_NAME = r"/([^/]+/[^/]+)"


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(content: bytes | Path) -> str:
    digest = hashlib.sha256()
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _blob(name: str, content: bytes | Path, sha256: Callable[[bytes | Path], str]) -> Blob:
    digest = sha256(content)
    if isinstance(content, bytes) and not name.endswith(LFS_SUFFIXES):
        git = _git_sha1(content)
        return Blob(content, len(content), digest, git, git, None)
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    return Blob(content, size, digest, digest, _git_sha1(pointer.encode()), len(pointer))


class Site:
    """What the Hub knows and answers, without a socket."""

    endpoint = ""
    cdn = ""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.granted: set[tuple[str, str]] = set()  # token, repository
        self._repos: dict[str, Repo] = {}
        self._blobs: dict[str, Blob] = {}  # the CDN's, by sha256
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
        old = self._repos.get(repo, Repo())
        commits, branches = {**old.commits, commit: blobs}, {**old.branches, revision: commit}
        self._repos[repo] = Repo(commits, branches, gated, private, licence, xet)
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

    def answer(self, request: Request) -> Answer:
        """The whole answer to a request, before its Range and any fault."""
        name = unquote(request.path)
        try:
            for pattern, method in _ROUTES[request.where]:
                if match := re.fullmatch(pattern, request.path):
                    parts = [unquote(part) for part in match.groups()]
                    if not request.path.startswith("/api/"):
                        name = parts[-1]
                    found: Answer = getattr(self, method)(request, *parts)
                    return replace(found, name=name)
            raise Refused(404, "", "Not Found")
        except Refused as refused:
            return replace(refused.answer, name=name)

    def _repo(self, request: Request, name: str) -> Repo:
        token = request.token
        if token is not None and token not in self.tokens:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        repo = self._repos.get(name)
        if repo is None or (repo.private and token and (token, name) not in self.granted):
            raise Refused(404, "RepoNotFound", "Repository not found")
        if repo.private and token is None:
            raise Refused(401, "RepoNotFound", "Invalid username or password.")
        return repo

    def _commit(self, repo: Repo, revision: str) -> str:
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {quote(revision)}")
        return commit

    def _list(self, request: Request) -> Answer:
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

    def _info(self, request: Request, name: str, revision: str = "main") -> Answer:
        repo = self._repo(request, name)
        commit = self._commit(repo, revision)
        blobs = request.query.get("blobs", [""])[0].lower() in ("true", "1")
        files = repo.commits[commit].items()
        siblings = [_sibling(file, blob) if blobs else {"rfilename": file} for file, blob in files]
        gated = "manual" if repo.gated else False
        return _json({**_summary(name, repo, commit), "gated": gated, "siblings": siblings})

    def _tree(self, request: Request, name: str, revision: str) -> Answer:
        repo = self._repo(request, name)
        files = repo.commits[self._commit(repo, revision)].items()
        return _json([_leaf(file, blob) for file, blob in files])

    def _refs(self, request: Request, name: str) -> Answer:
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

    def _whoami(self, request: Request) -> Answer:
        if request.token not in self.tokens:
            raise Refused(401, "", "Invalid username or password.")
        access = {"displayName": "test", "role": "read"}
        return _json({"type": "user", "name": "tester", "auth": {"accessToken": access}})

    def _resolve(self, request: Request, name: str, revision: str, file: str) -> Answer:
        repo = self._repo(request, name)
        if repo.gated and (request.token or "", name) not in self.granted:
            message = f"Access to model {name} is restricted."
            raise Refused(403 if request.token else 401, "GatedRepo", message)
        commit = self._commit(repo, revision)
        blob = repo.commits[commit].get(file)
        if blob is None:
            raise Refused(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        headers = _file_headers(blob) | {"X-Repo-Commit": commit}
        if blob.pointer_size is None:
            return Answer(200, headers, blob=blob)
        headers["X-Linked-Etag"] = headers["ETag"]
        headers["X-Linked-Size"] = str(blob.size)
        if repo.xet:
            headers["X-Xet-Hash"] = hashlib.sha256(b"xet" + blob.sha256.encode()).hexdigest()
            route = f"{self.endpoint}/api/models/{name}/xet-read-token/{commit}"  # answers 404
            headers["Link"] = f'<{route}>; rel="xet-auth"'
        signed = f"Expires={int(time.time()) + 3600}&Signature={self._signature(blob.sha256)}"
        headers["Location"] = f"{self.cdn}/{blob.sha256}/{quote(file, safe='')}?{signed}"
        return Answer(302, headers)

    def _signature(self, sha256: str) -> str:
        return hashlib.sha256(f"{sha256} {self._links_made}".encode()).hexdigest()[:32]

    def _link(self, request: Request, sha256: str, name: str) -> Answer:
        if request.query.get("Signature") != [self._signature(sha256)]:
            raise Refused(403, "", "Request has expired")
        blob = self._blobs[sha256]
        return Answer(200, _file_headers(blob), blob=blob)


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


def _json(data: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(data).encode())


def _file_headers(blob: Blob) -> dict[str, str]:
    kind = "text/plain" if blob.pointer_size is None else "application/octet-stream"
    return {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", "Content-Type": kind}


def _summary(name: str, repo: Repo, commit: str) -> dict[str, Any]:
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


def _sibling(name: str, blob: Blob) -> dict[str, Any]:
    found = {"rfilename": name, "size": blob.size, "blobId": blob.blob_id}
    lfs = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return found if blob.pointer_size is None else {**found, "lfs": lfs}


def _leaf(name: str, blob: Blob) -> dict[str, Any]:
    found = {"type": "file", "path": name, "size": blob.size, "oid": blob.blob_id}
    lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return found if blob.pointer_size is None else {**found, "lfs": lfs}
