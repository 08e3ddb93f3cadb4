"""What a worker keeps is whole, or is forgotten."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fwlocal.errors import FwlocalError
from fwlocal.files import CACHE
from fwlocal.workers import cache as worker_cache
from fwlocal.workers.cache import TensorCache, default_folder

OLD, NEW = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a cache will be."""
    return tmp_path / "cache" / "rpc"


def write(folder: Path, name: str, *, age_s: float = 0.0) -> Path:
    """A tensor's file that was written ``age_s`` ago."""
    path = folder / name
    path.write_bytes(bytes(1000))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def begin(folder: Path, *, ago_s: float) -> TensorCache:
    """A session that began a while ago."""
    kept = TensorCache(folder)
    then = time.time() - ago_s
    os.utime(folder / "session-open", (then, then))
    return kept


def test_a_session_in_order_keeps_its_tensors(folder: Path) -> None:
    kept = begin(folder, ago_s=100)
    tensor = write(folder, NEW, age_s=10)
    kept.watch()
    kept.close()
    kept = TensorCache(folder)
    assert tensor.exists()
    assert kept.size_bytes == 1000
    kept.close()
    assert sorted(folder.iterdir()) == [tensor]


def test_a_tensor_that_may_be_half_written_is_forgotten(folder: Path) -> None:
    kept = begin(folder, ago_s=100)
    tensor, whole = write(folder, NEW), write(folder, OLD, age_s=10)
    kept.close()
    assert not tensor.exists()
    assert whole.exists()


def test_what_a_killed_session_wrote_is_forgotten(folder: Path) -> None:
    killed = begin(folder, ago_s=100)
    before, after = write(folder, OLD, age_s=200), write(folder, NEW, age_s=50)
    killed._lock.release()  # as the end of its process does
    TensorCache(folder).close()
    assert before.exists()
    assert not after.exists()


def test_what_was_written_while_the_disk_was_full_is_forgotten(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = begin(folder, ago_s=100)
    before, after = write(folder, OLD, age_s=200), write(folder, NEW, age_s=50)
    with monkeypatch.context() as full:
        full.setattr(worker_cache, "SCARCE_BYTES", 2**63)
        kept.watch()
    kept.close()  # there is room again
    assert before.exists()
    assert not after.exists()


def test_other_files_stay(folder: Path) -> None:
    kept = begin(folder, ago_s=100)
    notes = write(folder, "notes.txt")
    kept.close()
    assert notes.exists()


def test_one_worker_at_a_time(folder: Path) -> None:
    kept = TensorCache(folder)
    with pytest.raises(FwlocalError, match=r"is a worker that keeps tensors there; wait for that"):
        TensorCache(folder)
    kept.close()
    TensorCache(folder).close()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FwlocalError, match=r"tensors cannot be kept there .* or leave --cache out"):
        TensorCache(tmp_path / "file" / "rpc")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_only_its_owner_reads_it(folder: Path) -> None:
    TensorCache(folder).close()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_environment_names_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CACHE, raising=False)
    assert default_folder().parts[-2:] == ("fwlocal", "rpc") or os.name == "nt"
    monkeypatch.setenv(CACHE, str(tmp_path))
    assert default_folder() == tmp_path / "rpc"
