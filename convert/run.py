"""A prepared conversion, carried out: the files that are there, the disk, the pass, the end."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.checked import Checked
from convert.integrity import Integrity
from convert.job import Job, nearest_folder
from convert.pipeline import Options, Progress, run
from convert.plan import PlannedFile
from convert.quantize import available_cores
from convert.sources.source_file import SourceFile, WrongBytes
from convert.writer import OutputFile, header_bytes, recorded_sources
from fwlocal.errors import DoesNotFit, Interrupted, StoreError, UsageError
from fwlocal.locks import Busy

Notify = Callable[[str], None]
Stamps = Sequence[Sequence[str | int]]


@dataclass(frozen=True)
class Outcome:
    """What a run did: the files it ``wrote``, and those that were there, already the same; how much
    of the source came over the network."""

    wrote: tuple[Path, ...]
    present: tuple[Path, ...]
    fetched_bytes: int = 0


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
    fetched = sum(file.fetched_bytes for file in job.model.source.files)
    return Outcome(tuple(f.path for f in missing), tuple(f.path for f in present), fetched)


def check(job: Job) -> None:
    """Raise what a run would raise before it writes anything: UsageError for a file in the way,
    StoreError for one in the folder's place, DoesNotFit for too small a disk."""
    recorded = _recorded(job)
    missing = [file for file in job.files if file.path not in recorded]
    headers = {file.path: header_bytes(file, len(job.model.source.files)) for file in missing}
    _check_disk(missing, headers, nearest_folder(job.request.out))


def _present(job: Job) -> list[PlannedFile]:
    """The files that are there and are what the job would write. Raises UsageError for others."""
    recorded = _recorded(job)
    if not recorded:
        return []
    hashes = _source_hashes(job)
    for path, sources in recorded.items():
        if sources != hashes:
            raise _in_the_way(path)
    present = [file for file in job.files if file.path in recorded]
    for file in present:
        OutputFile.tidy(file)
    return present


def _recorded(job: Job) -> dict[Path, tuple[str, ...]]:
    """The files that are there and look like the job's, with the hashes of what they were made
    from. Raises UsageError for others, unless they may be overwritten."""
    recorded = {}
    for file in job.files:
        if file.path.is_dir():
            raise UsageError(f"{file.path}: is a folder; choose another --out or --name")
        if file.path.exists() and not job.request.overwrite:
            sources = recorded_sources(file, len(job.model.source.files))
            if sources is None:
                raise _in_the_way(file.path)
            recorded[file.path] = sources
    return recorded


def _in_the_way(path: Path) -> UsageError:
    return UsageError(f"{path}: exists and is not what this would write; --overwrite replaces it")


def _source_hashes(job: Job) -> tuple[str, ...]:
    integrity = Integrity(job.model.source.files, {})
    try:
        return integrity.result()
    finally:
        integrity.stop()


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
    try:
        headers = {file.path: header_bytes(file, len(source.files)) for file in missing}
        _check_disk(missing, headers, request.out)
        with _opened(job, headers, missing, stamps) as files:
            if job.fetch_bytes:
                notify(f"reading {job.fetch_bytes / 1e9:.2f} GB from the Hub, none of it is stored")
            _tell_start(files, notify)
            checked = Checked(job.model, files)

            def progress(now: Progress) -> None:
                integrity.check()
                integrity.advance(now.done_bytes)
                checked.note()
                on_progress(now)

            run(job.model, files, _options(job), progress)
            hashes = integrity.result()
            if _stamps(source.files) != stamps:
                raise StoreError("the source has changed meanwhile; run the command again")
            for file in files:
                file.commit(hashes)
            for line in checked.lines():  # before the files have their names: it is told for sure
                notify(line)
            for file in reversed(files):  # the first part of a split model comes last
                file.publish()
    finally:
        integrity.stop()


@contextlib.contextmanager
def _opened(
    job: Job, headers: Mapping[Path, bytes], missing: Sequence[PlannedFile], stamps: Stamps
) -> Iterator[list[OutputFile]]:
    """The files, locked. An interruption inside says how far they are; when it turns out that what
    they were made from came wrong, they are removed."""
    with contextlib.ExitStack() as stack:
        files: list[OutputFile] = []
        try:
            for plan in missing:
                header = headers[plan.path]
                files.append(OutputFile(plan, header, _identity(header, stamps)))
                stack.callback(files[-1].close)
                if plan.path.exists() and not job.request.overwrite:
                    raise Busy(f"{plan.path}: was just written by another process")
            yield files
        except WrongBytes:
            for file in files:
                file.discard()
            raise
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
    _tell_left_over(files, notify)


def _tell_left_over(files: Sequence[OutputFile], notify: Notify) -> None:
    """Other runs' unfinished files of this model, hidden as they are."""
    ours = {file.partial_path(file.plan) for file in files}
    folder, level = files[0].plan.path.parent, files[0].plan.level.name
    stem = files[0].plan.path.name.split(f"-{level}")[0]
    for path in sorted(set(folder.glob(f".{glob.escape(stem)}-*.gguf.partial")) - ours):
        size = path.stat().st_size / 1e9
        notify(f"{path}: unfinished, of another run ({size:.2f} GB); remove it if you want no more")


def _options(job: Job) -> Options:
    return Options(
        job.request.n_threads or available_cores(), job.request.allow_nan, job.importance
    )


def _stamps(files: Sequence[SourceFile]) -> Stamps:
    """What tells that the source was not touched since. Raises BadCheckpoint for a file gone."""
    return [file.identity for file in files]


def _identity(header: bytes, stamps: Stamps) -> str:
    """Two runs with the same identity write the same bytes."""
    digest = hashlib.sha256(header)
    digest.update(json.dumps(list(stamps)).encode())
    return digest.hexdigest()


def _check_disk(files: Sequence[PlannedFile], headers: Mapping[Path, bytes], out: Path) -> None:
    """Raise DoesNotFit unless all files fit; what an interrupted run has written is there."""
    needed = sum(len(headers[file.path]) + file.data_bytes for file in files)
    for file in files:
        with contextlib.suppress(OSError):
            stat = OutputFile.partial_path(file).stat()
            needed -= stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
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
