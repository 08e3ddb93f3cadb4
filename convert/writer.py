"""One GGUF file, written tensor by tensor and resumable: nobody ever sees half of it.

While it grows it is ``.NAME.partial`` beside its final name, with a journal of the tensors that are
whole and their SHA-256, and of the remote files that were checked as a whole. A run that finds both
goes on with what the journal names and the hashes confirm, whatever ended the run before. Only a
whole, checked and synced file gets its name.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import gguf
import numpy as np

from convert.plan import PlannedFile, PlannedTensor
from convert.sources.source_file import Bytes
from convert.sources.tensors import SOURCE_HASHES, TENSOR_HASHES, TENSOR_TABLE, table_digest
from fwlocal.errors import BadModelFile, StoreError
from fwlocal.files import sync_folder
from fwlocal.gguf import DEFAULT_ALIGNMENT, read_header
from fwlocal.locks import Lock, held

# What an unfinished file tells of its source.
ORIGIN = tuple(f"fwlocal.{kind}{of}" for kind in ("source", "base") for of in ("", ".revision"))
UNKNOWN = "0" * 64  # in a hash's place until it is known
_BLOCK = 8 << 20


class OutputFile:
    """The file that ``plan`` asks for, locked for this process until ``close``."""

    def __init__(self, plan: PlannedFile, header: bytes, identity: str) -> None:
        """Go on with what an earlier run of the same ``identity`` left, or begin.

        ``header`` is the plan's with its hashes unknown. Raises StoreError when another process
        writes the file, naming that process.
        """
        self.plan = plan
        self.done: dict[str, str] = {}  # tensor -> SHA-256
        self.began_anew = False
        self.checked: set[str] = set()  # remote files that passed whole when this was made of them
        self._header = header
        path = plan.path
        self._partial = self.partial_path(plan)
        self._journal_path = path.with_name(f".{path.name}.journal")
        self._lock = Lock(plan.path)
        self._hashes: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            self._acquire()
            stack.callback(self._lock.release)
            finished = self._earlier(identity)
            self._journal = self._begin_journal(identity, finished)
            stack.callback(self._journal.close)
            self._file = self._partial.open("r+b" if finished else "x+b", buffering=0)
            stack.callback(self._file.close)
            self.done = dict(self._confirmed(finished))
            self.checked = _checked_files(finished)
            stack.pop_all()

    @staticmethod
    def partial_path(plan: PlannedFile) -> Path:
        """Where the file grows."""
        return plan.path.with_name(f".{plan.path.name}.partial")

    def _acquire(self) -> None:
        try:
            self._lock.acquire("writing it", wait=False)
        except OSError as error:
            raise StoreError(
                f"{self.plan.path}: cannot be written ({error.strerror or error}); choose another "
                "--out or --name"
            ) from error

    def _earlier(self, identity: str) -> list[dict[str, Any]]:
        """What an earlier run of the same identity journalled; of any other, nothing is kept.

        A download of this file grows at the same place. Its note goes first: the downloader must
        not take what is written here for its own.
        """
        path = self.plan.path
        path.with_name(f".{path.name}.download").unlink(missing_ok=True)
        first, *finished = [*_read_journal(self._journal_path)] or [{}]
        usable = self._partial.is_file() and not self._partial.is_symlink()
        if usable and finished and first.get("identity") == identity:
            return finished
        self.began_anew = self._partial.exists() and first.get("identity", identity) != identity
        self._partial.unlink(missing_ok=True)
        return []

    def _begin_journal(self, identity: str, finished: Sequence[Mapping[str, Any]]) -> IO[str]:
        """The journal, anew; what it knew before stays in it."""
        keys = self.plan.keys
        origin = {key: keys[key].value for key in ORIGIN if key in keys}
        lines = [{"identity": identity, **origin}, *finished]
        fresh = self._journal_path.with_suffix(".journal-new")
        fresh.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(fresh, self._journal_path)
        return self._journal_path.open("a", encoding="utf-8")

    def _confirmed(self, finished: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
        """The journalled tensors whose bytes are really there."""
        planned = {tensor.tensor.name: tensor for tensor in self.plan.tensors}
        for line in finished:
            tensor = planned.get(str(line.get("tensor")))
            if tensor is None:
                continue
            digest, left = hashlib.sha256(), tensor.size_bytes
            self._file.seek(len(self._header) + tensor.offset)
            while left and (block := self._file.read(min(left, _BLOCK))):
                digest.update(block)
                left -= len(block)
            if digest.hexdigest() == line.get("sha256"):
                yield tensor.tensor.name, digest.hexdigest()

    def write(self, tensor: PlannedTensor, position: int, data: Bytes) -> None:
        """``data`` at ``position`` within the tensor, whose parts come in their order.

        With the last part the tensor is done. OSError when the disk is full.
        """
        self._write_at(len(self._header) + tensor.offset + position, data.data)
        name = tensor.tensor.name
        digest = self._hashes.setdefault(name, hashlib.sha256())
        digest.update(data)
        if position + data.size == tensor.size_bytes:
            self.done[name] = self._hashes.pop(name).hexdigest()
            self._journal.write(json.dumps({"tensor": name, "sha256": self.done[name]}) + "\n")
            self._journal.flush()

    def note_checked(self, source_file: str, is_checked: bool) -> None:
        """Whether a remote file passed whole while all that is here of it was made."""
        (self.checked.add if is_checked else self.checked.discard)(source_file)
        self._journal.write(json.dumps({"source": source_file, "checked": is_checked}) + "\n")
        self._journal.flush()

    def _write_at(self, offset: int, view: memoryview) -> None:
        self._file.seek(offset)
        while view:
            view = view[self._file.write(view) :]

    def commit(self, source_hashes: Sequence[str]) -> None:
        """Make the whole file durable and check it. Raises StoreError if it is not what it must."""
        plan = self.plan
        tensor_hashes = [self.done[tensor.tensor.name] for tensor in plan.tensors]
        header = with_hashes(self._header, source_hashes, tensor_hashes)
        self._write_at(0, memoryview(header))
        self._file.truncate(len(header) + plan.data_bytes)
        os.fsync(self._file.fileno())
        self._file.close()
        planned = {t.tensor.name: (t.type_name, t.offset) for t in plan.tensors}
        with contextlib.suppress(BadModelFile):
            written = read_header(self._partial).tensors
            if {t.name: (t.type_name, t.offset) for t in written} == planned:
                return
        raise StoreError(f"{self._partial}: is no longer what was written to it; convert again")

    def publish(self) -> None:
        """Give the committed file its name."""
        os.replace(self._partial, self.plan.path)
        self._journal.close()
        self._journal_path.unlink()
        sync_folder(self.plan.path.parent)

    def discard(self) -> None:
        """Remove what was written: it was made of wrong bytes."""
        self._file.close()
        self._journal.close()
        self._partial.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    @staticmethod
    def tidy(plan: PlannedFile) -> None:
        """Remove what a run that was killed after its last step left beside a finished file, unless
        another process is at work there."""
        with contextlib.suppress(StoreError, OSError), held(plan.path, "tidying up"):
            for kind in ("partial", "journal"):
                plan.path.with_name(f".{plan.path.name}.{kind}").unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file as it is, for a later run, to other processes."""
        self._file.close()
        self._journal.close()
        self._lock.release()


def begun_from(folder: Path, stem: str) -> dict[str, str]:
    """The source of an unfinished file called after ``stem`` in ``folder``, and of its base, by
    their GGUF keys; {} where there is none."""
    for path in folder.glob(f".{glob.escape(stem)}*.gguf.journal"):
        first: dict[str, Any] = next(_read_journal(path), {})
        return {key: str(first[key]) for key in ORIGIN if key in first}
    return {}


def header_bytes(plan: PlannedFile, n_source_files: int) -> bytes:
    """All of the file before its data, the hashes still to be filled in."""
    string = gguf.GGUFValueType.STRING
    with tempfile.TemporaryDirectory(prefix="fwlocal-") as folder:
        path = Path(folder) / "header"
        writer = gguf.GGUFWriter(path, plan.keys["general.architecture"].value)
        writer.kv_data[0].update(plan.keys)
        table = ((t.tensor.name, t.type_name, t.tensor.shape[::-1]) for t in plan.tensors)
        writer.add_key_value(TENSOR_TABLE, table_digest(table), string)
        for key, count in ((SOURCE_HASHES, n_source_files), (TENSOR_HASHES, len(plan.tensors))):
            writer.add_key_value(key, [UNKNOWN] * count, gguf.GGUFValueType.ARRAY, string)
        for planned in plan.tensors:
            kind = gguf.GGMLQuantizationType[planned.type_name]
            shape, size = planned.tensor.shape, planned.size_bytes
            writer.add_tensor_info(
                planned.tensor.name, shape, np.dtype(np.float32), size, raw_dtype=kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        header = path.read_bytes()
    return header + b"\0" * (-len(header) % DEFAULT_ALIGNMENT)


def with_hashes(header: bytes, sources: Sequence[str], tensors: Sequence[str]) -> bytes:
    """``header`` with the hashes of all source files and tensors in their places; they are the
    last of its keys."""
    start = header.rindex(SOURCE_HASHES.encode())
    *pieces, end = header[start:].split(UNKNOWN.encode())
    filled = zip(pieces, (*sources, *tensors), strict=True)
    return header[:start] + b"".join(piece + digest.encode() for piece, digest in filled) + end


def recorded_sources(plan: PlannedFile, n_source_files: int) -> tuple[str, ...] | None:
    """The hashes of the sources that the final file was made from; None when it is missing, or is
    not what this plan would make."""
    try:
        found = read_header(plan.path)
        sources, tensors = (
            tuple(map(str, found.metadata[key]))  # type: ignore[arg-type]
            for key in (SOURCE_HASHES, TENSOR_HASHES)
        )
        expected = with_hashes(header_bytes(plan, n_source_files), sources, tensors)
        with plan.path.open("rb") as file:
            return sources if file.read(len(expected)) == expected else None
    except (BadModelFile, OSError, KeyError, TypeError, ValueError):
        return None


def _checked_files(lines: Sequence[Mapping[str, Any]]) -> set[str]:
    """The source files whose last line says that they were checked."""
    told = {str(line["source"]): line.get("checked") is True for line in lines if "source" in line}
    return {name for name, is_checked in told.items() if is_checked}


def _read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The journal's lines up to the first that was cut short."""
    with contextlib.suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)
            if isinstance(value, dict):
                yield value
