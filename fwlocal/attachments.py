"""Text files that go along with a prompt: named by path, folder or pattern, checked, and laid out
under headings.

It knows no model: how many tokens a text has is for others to say.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import FwlocalError, UsageError
from fwlocal.files import sized
from fwlocal.terminal import inert

MOST_BYTES = 16 << 20  # of all files together; about four million tokens, more than models take
BYTES_PER_TOKEN = 4  # of English prose and code, roughly
MANY_TOKENS = 10**5  # which are told in millions

_TOGETHER = f"files may have {MOST_BYTES >> 20} MiB together, so name fewer, or a part of it"
_HEAD_BYTES = 8192  # what a binary file shows itself in, as git looks for it
_FENCE = re.compile(r"^\s*(`{3,})", re.MULTILINE)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Attachment:
    """A text file as the model gets it: ``text`` without BOM, its lines ended by newlines."""

    name: str
    text: str

    @property
    def size_bytes(self) -> int:
        """Of the text, in UTF-8."""
        return len(self.text.encode())

    @property
    def block(self) -> str:
        """The text in a fence longer than any in it, under its name as a heading."""
        fence = "`" * max([3, *(len(found) + 1 for found in _FENCE.findall(self.text))])
        body = self.text if self.text.endswith("\n") or not self.text else f"{self.text}\n"
        return f"# {self.name}\n\n{fence}\n{body}{fence}"


class NoText(FwlocalError):
    """A file that holds no text."""


def read_attachments(patterns: Iterable[str], tell: Tell | None = None) -> tuple[Attachment, ...]:
    """The files that ``patterns`` name, each once: in the order of the patterns, those of one
    pattern sorted. ``**`` stands for any number of folders.

    A folder means the text files anywhere below it, if there is somebody to ``tell`` in a line what
    of it was left out: what is hidden, and what is no text. Raises UsageError for a pattern that
    matches no file and for a folder without ``tell``, FwlocalError for a file that cannot be read,
    is no text, or is too large, the last before it is read.
    """
    reading = _Reading()
    for pattern in patterns:
        path = _path_of(pattern)
        if not os.path.isdir(path):
            for file in _files_of(path, pattern):
                reading.take(file)
        elif tell is None:
            example = (Path(path) / "**" / "*.py").as_posix()
            raise UsageError(f"{pattern}: is a folder; name its files, as with '{example}'")
        else:
            reading.take_folder(path, tell)
    return tuple(reading.attachments)


class _Reading:
    """The files so far, and the room that they leave."""

    def __init__(self) -> None:
        self.attachments: list[Attachment] = []
        self._seen: set[Path] = set()
        self._room = MOST_BYTES

    def take(self, path: str) -> None:
        """Add a file, unless it is there."""
        real = Path(path).resolve()
        if real in self._seen:
            return
        data = read_bounded(path, self._room, _TOGETHER)
        self.attachments.append(Attachment(_named(path), decoded(data, path)))
        self._seen.add(real)
        self._room -= len(data)

    def take_folder(self, folder: str, tell: Tell) -> None:
        """Add the text files below it."""
        counts = {"taken": 0, "hidden": 0, "no text": 0}
        for path in _below(folder):
            if path is None:
                counts["hidden"] += 1
                continue
            try:
                self.take(path)
            except NoText:
                counts["no text"] += 1
            else:
                counts["taken"] += 1
        left_out = [f"{counts[why]} {why}" for why in ("hidden", "no text") if counts[why]]
        if not counts["taken"]:
            why = f" ({', '.join(left_out)})" if left_out else ""
            raise UsageError(f"{folder}: has no text file in it{why}; name another folder")
        if left_out:
            tell(f"{folder}: {counts['taken']} text files; left out: {', '.join(left_out)}")


def decoded(data: bytes, path: str) -> str:
    """The text of a file's bytes: UTF-8, without BOM, with newlines alone at the ends of lines.

    Raises NoText, which names ``path``, for what is no text.
    """
    _check_no_nul(data, path)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _no_text(path, f"byte {error.start} is not UTF-8") from None


def read_bounded(path: str, room: int, limit: str) -> bytes:
    """All of a file, or of a pipe that the shell gave a name, if it has at most ``room`` bytes;
    ``limit`` says in words what is allowed, and what to do.

    Raises FwlocalError for a file that cannot be read, NoText for one whose beginning is binary,
    and FwlocalError for one that has more, before it is read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            _check_no_nul(head, path)
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes > room:
                raise _too_large(path, size_bytes, limit)
            data = head + file.read(max(room + 1 - len(head), 0))
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else None
        raise FwlocalError(f"{path}: cannot be read: {problem or error}") from error
    if len(data) > room:
        raise FwlocalError(f"{path}: has more than there is room for; {limit}")
    return data


def _too_large(where: str, size_bytes: int, limit: str) -> FwlocalError:
    """The error for a text of that size, or more."""
    tokens = size_bytes // BYTES_PER_TOKEN
    count = f"{tokens / 1e6:,.1f} million" if tokens >= MANY_TOKENS else f"{tokens:,}"
    return FwlocalError(f"{where}: has {sized(size_bytes)}, about {count} tokens; {limit}")


def _check_no_nul(data: bytes, path: str) -> None:
    if b"\0" in data:
        raise _no_text(path, f"NUL byte at {data.index(0)}")


def _no_text(path: str, problem: str) -> NoText:
    return NoText(f"{path}: is no text ({problem}); leave it out, or convert it to UTF-8 first")


def _path_of(pattern: str) -> str:
    if not pattern:
        raise UsageError("the name of a file is empty; leave it out")
    if "\0" in pattern:
        raise UsageError(f"{pattern!r}: holds a NUL byte; no file is called so")
    return os.path.expanduser(pattern)


def _files_of(path: str, pattern: str) -> list[str]:
    """A path that exists is taken as it stands, whatever characters it has."""
    if os.path.exists(path) or not glob.has_magic(path):
        return [path]
    found = sorted(glob.glob(path, recursive=True))
    files = [one for one in found if not os.path.isdir(one)]
    if not files:
        what = "only folders" if found else "no file"
        raise UsageError(f"{pattern}: matches {what}; see how it is spelled, and where you are")
    return files


def _below(folder: str) -> Iterator[str | None]:
    """The regular files below a folder, sorted; None for each file and folder that is hidden.
    Links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise FwlocalError(f"{error.filename}: cannot be read: {error.strerror or error}")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        shown = sorted(name for name in folders if not name.startswith("."))
        yield from [None] * (len(folders) - len(shown))
        folders[:] = shown
        for name in sorted(files):
            path = os.path.join(parent, name)
            if name.startswith("."):
                yield None
            elif os.path.isfile(path):
                yield path


def _named(path: str) -> str:
    """A name for a heading: one line, with slashes, whatever bytes the file system has."""
    name = Path(path).as_posix()
    return inert(name.encode("utf-8", "replace").decode()).replace("\n", "\u240a")
