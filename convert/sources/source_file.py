"""A file of weights, wherever it is: exact bytes of it, and what tells that it is still the same.

Knows nothing of what is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fwlocal.errors import BadCheckpoint

Bytes = npt.NDArray[np.uint8]


class SourceFile(Protocol):
    """An open file; unless it is remote, not for several threads at once."""

    @property
    def path(self) -> Path:
        """Where it is, for messages and as its key: of a remote file ``owner/repo/name``."""

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""

    @property
    def identity(self) -> Sequence[str | int]:
        """Changes when the file does. Raises BadCheckpoint when it is gone."""

    @property
    def sha256(self) -> str | None:
        """Of the whole file, where that is known without reading it."""

    @property
    def expected_sha256(self) -> str | None:
        """What a file on this disk must have, where the Hub or Hugging Face's cache tells."""

    @property
    def is_remote(self) -> bool:
        """Whether its bytes come over the network."""

    @property
    def fetched_bytes(self) -> int:
        """How many came over the network by now, for this process."""

    def read(self, offset: int, count: int, what: str) -> Bytes:
        """``count`` bytes from ``offset``.

        Raises BadCheckpoint naming ``what`` if they are not there, NetworkError.
        """

    def read_each(self, pieces: Sequence[tuple[int, int]], what: str) -> list[Bytes]:
        """The same for many small pieces, each an offset and a count."""

    def fill(self, buffer: Bytes, offset: int, what: str) -> None:
        """The same into an array that is there."""

    def lies_at(self, path: Path) -> bool:
        """Whether ``path``, which exists, is this very file."""

    def close(self) -> None:
        """Give the file back."""


class WrongBytes(BadCheckpoint):
    """What was read is not the file; nothing that was made of it may stay."""
