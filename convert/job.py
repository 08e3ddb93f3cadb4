"""A conversion from request to files: prepared from headers alone, then run.

``prepare`` finds all that can be known to be wrong before anything is written; ``run_job`` does the
work. Both raise the errors of ``fwlocal.errors``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf

from convert.checkpoint import Location, locate, open_checkpoint
from convert.delta import DeltaSource
from convert.gguf_file import open_gguf
from convert.imatrix import ImportanceMatrix, read_imatrix, weights_for
from convert.integrity import Integrity
from convert.llama import EMBEDDING, key_values, map_tensors, read_config
from convert.metadata import Known, general_keys, provenance_keys, template_keys
from convert.model import Model
from convert.pipeline import Importance, Options, Progress, run
from convert.plan import PlannedFile, PlannedLevel, plan_levels
from convert.recipes import Level
from convert.tokenizer import read_tokenizer
from convert.writer import OutputFile, header_bytes, recorded_sources
from fwlocal.errors import DoesNotFit, Interrupted, StoreError, UsageError


@dataclass(frozen=True)
class Request:
    """What the user asks for; ``name`` "" takes the source's, ``split_bytes`` 0 never splits."""

    location: Location
    levels: tuple[Level, ...]
    out: Path
    name: str = ""
    base: str | None = None
    imatrix: Path | None = None
    n_threads: int | None = None
    split_bytes: int = 0
    overwrite: bool = False
    allow_nan: bool = False
    allow_requantize: bool = False
    known: Known = field(default_factory=Known)


@dataclass(frozen=True)
class Job:
    """A conversion that is known to be possible."""

    request: Request
    model: Model
    importance: Importance | None
    levels: tuple[PlannedLevel, ...]

    @property
    def files(self) -> tuple[PlannedFile, ...]:
        """Every file that will be written."""
        return tuple(file for level in self.levels for file in level.files)

    @property
    def source_bytes(self) -> int:
        """Bytes of the source's files."""
        return sum(path.stat().st_size for path in self.model.source.files)

    def close(self) -> None:
        """Give the source back."""
        self.model.source.close()


def prepare(request: Request) -> Job:
    """Open and check the source, and plan every file."""
    model = (_open_gguf if request.location.is_gguf else _open_llama)(request)
    try:
        return _plan(request, model)
    except BaseException:
        model.source.close()
        raise


def _open_gguf(request: Request) -> Model:
    location = request.location
    if request.base is not None:
        raise UsageError("--base is for a delta in Hugging Face's form, not for a GGUF")
    path = location.weights or location.folder
    model = open_gguf(path, allow_requantize=request.allow_requantize)
    keys = {
        **model.keys,
        **template_keys(request.known),
        **provenance_keys(location, model.source.files, request.known),
    }
    return Model(keys, model.tensors, model.shape, model.source)


def _open_llama(request: Request) -> Model:
    known, location, folder = request.known, request.location, request.location.folder
    if known.is_delta and request.base is None:
        raise UsageError(
            f"{folder}: a delta, useless until its base is added; name that with --base "
            f"({known.base_repo or 'the model it was made from'})"
        )
    config = read_config(folder / "config.json")
    source = open_checkpoint(location)
    try:
        if request.base is not None:
            source = DeltaSource(open_checkpoint(locate(request.base)), source)
        tensors = map_tensors(config, source.tensors, folder)
        keys = {
            **general_keys(folder, request.name or location.name, tensors, known.licence),
            **key_values(config),
            **read_tokenizer(folder, config.vocab_size, source.tensors[EMBEDDING].n_rows),
            **template_keys(known),
            **provenance_keys(location, source.files, known),
        }
        return Model(keys, tensors, config.shape, source)
    except BaseException:
        source.close()
        raise


def _plan(request: Request, model: Model) -> Job:
    importance = None
    if request.imatrix is not None:
        matrix = read_imatrix(request.imatrix)
        model = Model(
            {**model.keys, **_imatrix_keys(matrix)}, model.tensors, model.shape, model.source
        )
        found = {t.name: weights_for(matrix, t.name, t.shape[-1]) for t in model.tensors}
        importance = {name: weights for name, weights in found.items() if weights is not None}
    name = request.name or request.location.name
    levels = plan_levels(
        model,
        request.levels,
        request.out,
        name,
        split_bytes=request.split_bytes,
        importance=importance,
    )
    job = Job(request, model, importance, levels)
    sources = {path.resolve() for path in model.source.files}
    for file in job.files:
        if file.path.resolve() in sources:
            raise UsageError(f"{file.path}: is the source itself; choose another --out or --name")
    return job


def _imatrix_keys(matrix: ImportanceMatrix) -> dict[str, Any]:
    """As llama-quantize notes them."""
    string, u32 = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32
    return {
        "quantize.imatrix.file": gguf.GGUFValue(matrix.path.name, string),
        "quantize.imatrix.dataset": gguf.GGUFValue(", ".join(matrix.datasets), string),
        "quantize.imatrix.entries_count": gguf.GGUFValue(len(matrix.weights), u32),
        "quantize.imatrix.chunks_count": gguf.GGUFValue(matrix.n_chunks, u32),
    }


@dataclass(frozen=True)
class Outcome:
    """What a run did: the files it ``wrote``, and those that were there, already the same."""

    wrote: tuple[Path, ...]
    present: tuple[Path, ...]


def run_job(
    job: Job,
    notify: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Write every file of the job that is not there yet, or go on with an interrupted run.

    ``notify`` gets lines for the user. Raises, besides what the source can be found to be,
    StoreError, DoesNotFit, and Interrupted, after which a run of the same job goes on.
    """
    present = _present(job)
    missing = [file for file in job.files if file not in present]
    if missing:
        try:
            _write(job, missing, notify, on_progress)
        except OSError as error:
            raise _write_failure(error, job.request.out) from error
    return Outcome(tuple(f.path for f in missing), tuple(f.path for f in present))


def _present(job: Job) -> list[PlannedFile]:
    """The files that are there and are what the job would write. Raises UsageError for others."""
    existing = [file for file in job.files if file.path.exists()]
    if job.request.overwrite or not existing:
        return []
    recorded = [recorded_sources(file, len(job.model.source.files)) for file in existing]
    if None not in recorded:
        hashes = Integrity(job.model.source.files, {}).result()
        if all(sources == hashes for sources in recorded):
            return existing
    different = next((f for f, r in zip(existing, recorded, strict=True) if r is None), existing[0])
    raise UsageError(
        f"{different.path}: exists and is not what this would write; --overwrite replaces it"
    )


def _write(
    job: Job,
    missing: Sequence[PlannedFile],
    notify: Callable[[str], None],
    on_progress: Callable[[Progress], None],
) -> None:
    source, request = job.model.source, job.request
    request.out.mkdir(parents=True, exist_ok=True)
    stamps = _stamps(source.files)
    headers = {file.path: header_bytes(file, len(source.files)) for file in missing}
    _check_disk(missing, headers, request.out)
    integrity = Integrity(source.files, source.checksums)
    last: Progress | None = None

    def progress(now: Progress) -> None:
        nonlocal last
        last = now
        integrity.check()
        on_progress(now)

    try:
        with contextlib.ExitStack() as stack:
            files = []
            for plan in missing:
                file = OutputFile(
                    plan, headers[plan.path], _identity(job, headers[plan.path], stamps)
                )
                stack.callback(file.close)
                files.append(file)
            _tell_start(files, notify)
            run(job.model, files, _options(job), progress)
            hashes = integrity.result()
            if _stamps(source.files) != stamps:
                raise StoreError("the source has changed meanwhile; run the command again")
            for file in files:
                file.commit(hashes)
            for file in reversed(files):  # the first part of a split model comes last
                file.publish()
    except (KeyboardInterrupt, Interrupted) as error:
        done = f"{last.n_done} of {last.n_tensors} tensors are done" if last else "nothing is done"
        code = error.exit_code if isinstance(error, Interrupted) else 130
        raise Interrupted(f"{done}; the same command goes on from there", exit_code=code) from None
    finally:
        integrity.stop()


def _tell_start(files: Sequence[OutputFile], notify: Callable[[str], None]) -> None:
    for file in files:
        if file.began_anew:
            notify(f"{file.plan.path.name}: the source or the options have changed; starting anew")
        elif file.done:
            total = len(file.plan.tensors)
            notify(f"{file.plan.path.name}: going on after {len(file.done)} of {total} tensors")


def _options(job: Job) -> Options:
    return Options(
        job.request.n_threads or available_cores(), job.request.allow_nan, job.importance
    )


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _stamps(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """What tells that a source file was not touched since: its name, size and time."""
    stats = ((path, path.stat()) for path in files)
    return [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _identity(job: Job, header: bytes, stamps: Sequence[tuple[str, int, int]]) -> str:
    """Two runs with the same identity write the same bytes."""
    digest = hashlib.sha256(header)
    digest.update(json.dumps([list(stamps), job.request.allow_nan]).encode())
    for name, weights in sorted((job.importance or {}).items()):
        digest.update(name.encode() + weights.tobytes())
    return digest.hexdigest()


def _check_disk(files: Sequence[PlannedFile], headers: Mapping[Path, bytes], out: Path) -> None:
    """Raise DoesNotFit unless all files fit; what an interrupted run has written is there."""
    needed = sum(len(headers[file.path]) + file.data_bytes for file in files)
    for file in files:
        with contextlib.suppress(OSError):
            stat = OutputFile.partial_path(file).stat()
            needed -= getattr(stat, "st_blocks", 0) * 512
    free = shutil.disk_usage(out).free
    if needed > free:
        raise DoesNotFit(
            f"{out}: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free; make room, choose "
            "another --out, or fewer levels"
        )


def _write_failure(error: OSError, out: Path) -> StoreError | DoesNotFit:
    where = error.filename or out
    remedy = "the same command then goes on where this one stopped"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DoesNotFit(f"{where}: no room left ({error.strerror}); make room, {remedy}")
    return StoreError(f"{where}: cannot be written ({error.strerror or error}); {remedy}")
