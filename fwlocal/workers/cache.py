"""The tensors that a worker keeps, so that a model need not be sent twice.

llama.cpp writes a tensor under the hash of its bytes and later believes the name: a file that a
full disk or a kill cut short would silently become wrong weights. So whatever a session wrote
that did not end in order is forgotten before the next one. How a tensor is hashed and sent, this
does not know.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from fwlocal.errors import FwlocalError
from fwlocal.files import CACHE, user_cache
from fwlocal.locks import Lock

SCARCE_BYTES = 1 << 30  # with less room on the disk, files may have been cut short
BEING_WRITTEN_S = 5.0  # a file that changed so lately may not be whole
_NAME = re.compile(r"[0-9a-f]{16}")


def default_folder() -> Path:
    """``rpc`` in the user's cache folder, or in what FWLOCAL_CACHE names."""
    return user_cache() / "rpc"


class TensorCache:
    """The folder of tensors, open for one worker at a time; ``close`` in order, or lose what was
    written since. Raises FwlocalError where it cannot be made, Busy while another has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = folder / "session-open"
        self._is_doubtful = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = Lock(folder)
            self._lock.acquire("a worker that keeps tensors there", wait=False)
            self._forget_unfinished()
        except OSError as error:
            raise FwlocalError(
                f"{folder}: tensors cannot be kept there ({error.strerror or error}); make it "
                f"writable, set {CACHE} to another folder, or leave --cache out"
            ) from error

    @property
    def size_bytes(self) -> int:
        """What it holds."""
        return sum(path.stat().st_size for path in self._tensors())

    def watch(self) -> None:
        """To be called again and again: notices a disk that gets full."""
        self._is_doubtful = self._is_doubtful or _free_bytes(self.folder) < SCARCE_BYTES

    def close(self) -> None:
        """End the session: a tensor that may be half written goes; on a full disk all new ones."""
        self.watch()
        if self._is_doubtful:
            self._forget_since(self._open.stat().st_mtime)
        else:
            self._forget_since(time.time() - BEING_WRITTEN_S)
        self._open.unlink()
        self._lock.release()

    def _forget_unfinished(self) -> None:
        if self._open.exists():
            self._forget_since(self._open.stat().st_mtime)
        self._open.write_bytes(b"")

    def _forget_since(self, moment: float) -> None:
        for path in self._tensors():
            if path.stat().st_mtime >= moment:
                path.unlink()

    def _tensors(self) -> Iterator[Path]:
        return (path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
