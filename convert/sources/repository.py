"""A repository of the Hub, as far as a conversion needs it; ``fwlocal.hub`` is behind it.

What a test needs instead of a network: three small protocols.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fwlocal.hub.repository import Snapshot

MAX_SMALL_BYTES = 64 << 20
# All that the converter reads of a checkpoint beside its weights.
SMALL = (
    *("config.json", "generation_config.json", "README.md", "tokenizer*", "*.index.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template*"),
    "additional_chat_templates/*.jinja",
)


class RemoteFile(Protocol):
    """One file at one commit; for any number of threads."""

    @property
    def repo(self) -> str:
        """owner/name"""

    @property
    def name(self) -> str:
        """Its path in the repository."""

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""

    @property
    def sha256(self) -> str | None:
        """Of the whole file, as the Hub names it; it does for large files."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Changes when the file does."""

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` from ``offset``. Raises NetworkError."""


Span = tuple[RemoteFile, int, int]  # a file, and the bytes of it from the first up to the second


class Stream(Protocol):
    """The bytes of several spans, one after the other, fetched ahead; for one thread."""

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` with the next bytes. Raises NetworkError."""

    def allow(self, position: int) -> None:
        """Fetch nothing beyond ``position``, counted over all spans."""

    def close(self) -> None:
        """Stop fetching."""


class Repository(Protocol):
    """A repository at one commit."""

    @property
    def repo(self) -> str:
        """owner/name"""

    @property
    def commit(self) -> str:
        """What its revision meant when it was asked for."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Its files and their bytes."""

    def open(self, name: str) -> RemoteFile:
        """One of the files."""

    def stream(self, spans: Sequence[Span], window_bytes: int) -> Stream:
        """The bytes of ``spans``, never more of them ahead in memory than ``window_bytes``."""

    def fetch_small(self) -> Path:
        """The files that hold no weights: a folder on this disk with them. Raises NetworkError."""


@dataclass(frozen=True)
class HubRepository:
    """A repository of Hugging Face's Hub."""

    snapshot: Snapshot

    @classmethod
    def ask(cls, repo: str, revision: str | None) -> HubRepository:
        """The repository at ``revision``, None for main. Raises ModelNotFound, NetworkError or
        UsageError."""
        from fwlocal.hub.repository import snapshot

        found = snapshot(repo, revision or "main")
        if found.reason is not None:  # only a part of it, which is on this disk, is known
            raise found.reason
        return cls(found)

    @property
    def repo(self) -> str:
        """owner/name"""
        return self.snapshot.repo

    @property
    def commit(self) -> str:
        """What its revision meant when it was asked for."""
        return self.snapshot.commit

    @property
    def sizes(self) -> Mapping[str, int]:
        """Its files and their bytes."""
        return {name: file.size_bytes for name, file in self.snapshot.files.items()}

    def open(self, name: str) -> RemoteFile:
        """One of the files."""
        return self.snapshot.open(name)

    def stream(self, spans: Sequence[Span], window_bytes: int) -> Stream:
        """The bytes of ``spans``."""
        from fwlocal.hub import stream as hub

        return hub.Stream([hub.Span(*span) for span in spans], window_bytes=window_bytes)  # type: ignore[arg-type]

    def fetch_small(self) -> Path:
        """The files that hold no weights, in Hugging Face's own cache."""
        from fwlocal.hub.repository import fetch_small

        return fetch_small(self.snapshot, small_files(self.sizes))


def small_files(sizes: Mapping[str, int]) -> list[str]:
    """Those that a conversion needs beside the weights."""
    return [
        name
        for name, size in sizes.items()
        if size <= MAX_SMALL_BYTES and any(_matches(name, pattern) for pattern in SMALL)
    ]


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)
