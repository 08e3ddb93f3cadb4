"""What passes between a process and its child: frames, and errors on their way.

A frame is one byte for its kind, eight for its length (big-endian), and so many bytes. Both ends
are this program; nothing that came from a file or a network is ever unpickled.
"""

from __future__ import annotations

import os
import pickle
import struct
import traceback
from dataclasses import dataclass
from typing import IO, Any

from fwlocal.errors import FwlocalError

MESSAGE, FAILURE, LAST_WORDS, INTERRUPT = b"m", b"f", b"w", b"i"
Frame = tuple[bytes, bytes]  # kind, payload

_HEADER = struct.Struct(">cQ")


class ChildFailed(Exception):
    """A bug in the child: an exception that is no FwlocalError, in words; with FWLOCAL_DEBUG=1 its
    traceback."""


@dataclass(frozen=True)
class Failure:
    """An exception on its way to the parent; ``kind`` None for a bug."""

    kind: type[FwlocalError] | None
    text: str
    exit_code: int = 1

    @staticmethod
    def of(error: Exception) -> Failure:
        """What of ``error`` travels."""
        if isinstance(error, FwlocalError):
            return Failure(type(error), str(error), error.exit_code)
        text = f"{type(error).__name__}: {error}"
        if os.environ.get("FWLOCAL_DEBUG") == "1":
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            text += "\n" + "".join(lines)
        return Failure(None, text)

    def error(self) -> Exception:
        """The exception to raise at the other end."""
        if self.kind is None:
            return ChildFailed(self.text)
        # Not by the class's own constructor, which may take other arguments.
        error = self.kind.__new__(self.kind, self.text)
        error.args = (self.text,)
        error.exit_code = self.exit_code
        return error


def pack(message: object) -> bytes:
    """A payload."""
    return pickle.dumps(message)


def unpack(payload: bytes) -> Any:
    """What ``pack`` was given."""
    return pickle.loads(payload)  # noqa: S301 (it comes from a process of our own)


def write_frame(file: IO[bytes], kind: bytes, payload: bytes) -> None:
    """Write a frame, and let it go."""
    file.write(_HEADER.pack(kind, len(payload)) + payload)
    file.flush()


def read_frame(file: IO[bytes]) -> Frame | None:
    """The next frame; None at the end, also when it comes within a frame."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    kind, length = _HEADER.unpack(header)
    payload = file.read(length)
    return (kind, payload) if len(payload) == length else None
