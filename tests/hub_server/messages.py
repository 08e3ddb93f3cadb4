"""What goes to and fro: requests, answers, blobs, and the faults that are planned."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import BinaryIO


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
class Blob:
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
class Repo:
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    licence: str | None = None
    xet: bool = False


@dataclass(frozen=True)
class Request:
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
class Answer:
    """``blob[start:stop]`` is the body where there is a blob; ``name`` is what faults match."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    name: str = ""
    blob: Blob | None = None
    start: int = 0
    stop: int = 0


class Refused(Exception):
    """The Hub's way of saying no."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        error = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(status, {**error, **named}, json.dumps({"error": message}).encode())
