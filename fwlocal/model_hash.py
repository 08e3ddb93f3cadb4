"""Which file answered: the SHA-256 of a model, known from the store or computed once.

To hash a large file takes long, so what came out is kept in the user's cache folder, and holds as
long as the file has the same inode, size and time of change. The file of a model in several parts
is hashed as if they were one: ``cat PART... | sha256sum`` gives the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fwlocal.files import user_cache, write_atomically
from fwlocal.gguf import GGUFHeader
from fwlocal.splits import parts_of
from fwlocal.store import ModelFile

_BLOCK_BYTES = 8 << 20

OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was hashed."""

    inode: int
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Memory:
    """The file that keeps hashes, the last ``most`` of them, of models of at least ``from_bytes``:
    less is hashed again in a moment."""

    path: Path
    from_bytes: int = 64 << 20
    most: int = 256

    @classmethod
    def of_user(cls) -> Memory:
        """``hashes.json`` in the user's cache folder, or in what FWLOCAL_CACHE names."""
        return cls(user_cache() / "hashes.json")

    def read(self) -> dict[str, dict[str, object]]:
        """What is kept, by the path of the model; of a missing or damaged file nothing."""
        try:
            data = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        entries = data.items() if isinstance(data, dict) else ()
        return {name: one for name, one in entries if _is_entry(one)}

    def keep(self, name: str, entry: dict[str, object]) -> None:
        """Add one, and forget the oldest; a folder that cannot be written costs only time."""
        known = {other: one for other, one in self.read().items() if other != name}
        kept = dict([*known.items(), (name, entry)][-self.most :])
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(kept, indent=1) + "\n")


def sha256_of_model(
    file: ModelFile, header: GGUFHeader, on_progress: OnProgress, memory: Memory | None = None
) -> str | None:
    """The SHA-256 of a model's file, as 64 hex digits; None where it cannot be read any more.
    ``on_progress`` gets the fraction done, and may raise to end it."""
    if file.sha256 is not None:
        return file.sha256
    path = file.path.absolute()
    is_split = (header.number("split.count") or 0) > 1
    try:
        return _known_or_hashed(
            parts_of(path) if is_split else [path], on_progress, memory or Memory.of_user()
        )
    except OSError:
        return None


def _known_or_hashed(parts: Sequence[Path], on_progress: OnProgress, memory: Memory) -> str:
    stamps = [_stamp(path) for path in parts]
    total = sum(stamp.size_bytes for stamp in stamps)
    if total < memory.from_bytes:
        return _digest(parts, total, on_progress)
    name, files = str(parts[0]), [asdict(stamp) for stamp in stamps]
    known = memory.read().get(name)
    if known is not None and known["files"] == files:
        return str(known["sha256"])
    digest = _digest(parts, total, on_progress)
    if stamps == [_stamp(path) for path in parts]:
        memory.keep(name, {"files": files, "sha256": digest})
    return digest


def _digest(parts: Sequence[Path], total: int, on_progress: OnProgress) -> str:
    digest, done = hashlib.sha256(), 0
    memory = memoryview(bytearray(_BLOCK_BYTES))
    for path in parts:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(memory):
                digest.update(memory[:count])
                done += count
                on_progress(min(1.0, done / total) if total else 1.0)
    return digest.hexdigest()


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return Stamp(stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _is_entry(data: object) -> bool:
    return isinstance(data, dict) and isinstance(data.get("sha256"), str) and "files" in data
