"""A prepared conversion, carried out: the files that are there, the disk, the pass, the end."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.integrity import Integrity
from convert.job import Job
from convert.pipeline import Options, Progress, run
from convert.plan import PlannedFile
from convert.writer import OutputFile, header_bytes, recorded_sources
from fwlocal.errors import DoesNotFit, Interrupted, StoreError, UsageError

Notify = Callable[[str], None]
Stamps = Sequence[tuple[str, int, int]]


@dataclass(frozen=True)
class Outcome:
    """What a run did: the files it ``wrote``, and those that were there, already the same."""

    wrote: tuple[Path, ...]
    present: tuple[Path, ...]


def run_job(
    job: Job,
    notify: Notify = lambda line: None,
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
    notify: Notify,
    on_progress: Callable[[Progress], None],
) -> None:
    source, request = job.model.source, job.request
    request.out.mkdir(parents=True, exist_ok=True)
    stamps = _stamps(source.files)
    integrity = Integrity(source.files, source.checksums)

    def progress(now: Progress) -> None:
        integrity.check()
        on_progress(now)

    try:
        headers = {file.path: header_bytes(file, len(source.files)) for file in missing}
        _check_disk(missing, headers, request.out)
        with _opened(job, headers, missing, stamps) as files:
            _tell_start(files, notify)
            run(job.model, files, _options(job), progress)
            hashes = integrity.result()
            if _stamps(source.files) != stamps:
                raise StoreError("the source has changed meanwhile; run the command again")
            for file in files:
                file.commit(hashes)
            for file in reversed(files):  # the first part of a split model comes last
                file.publish()
    finally:
        integrity.stop()


@contextlib.contextmanager
def _opened(
    job: Job, headers: Mapping[Path, bytes], missing: Sequence[PlannedFile], stamps: Stamps
) -> Iterator[list[OutputFile]]:
    """The files, locked. An interruption inside says how far they are."""
    with contextlib.ExitStack() as stack:
        files: list[OutputFile] = []
        try:
            for plan in missing:
                header = headers[plan.path]
                files.append(OutputFile(plan, header, _identity(job, header, stamps)))
                stack.callback(files[-1].close)
                if plan.path.exists() and not job.request.overwrite:
                    raise UsageError(f"{plan.path}: was just written by another process")
            yield files
        except (KeyboardInterrupt, Interrupted) as error:
            code = error.exit_code if isinstance(error, Interrupted) else 130
            done = sum(len(file.done) for file in files)
            total = sum(len(plan.tensors) for plan in missing)
            raise Interrupted(
                f"{done} of {total} tensors are done; the same command goes on from there",
                exit_code=code,
            ) from None


def _tell_start(files: Sequence[OutputFile], notify: Notify) -> None:
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


def _stamps(files: Sequence[Path]) -> Stamps:
    """What tells that a source file was not touched since: its name, size and time."""
    stats = ((path, path.stat()) for path in files)
    return [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _identity(job: Job, header: bytes, stamps: Stamps) -> str:
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
