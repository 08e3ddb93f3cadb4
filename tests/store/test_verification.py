"""Verifying while somebody else removes or replaces what is looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fwlocal.cli.verification import Report, Target, verify, whole_store
from fwlocal.library import Library
from fwlocal.store.importing import Request, check, take_in
from fwlocal.store.manifest import write_manifest
from fwlocal.store.removal import doomed, remove
from tests import tiny_llama


def put(library: Library, file: Path, name: str) -> None:
    """Import a copy of a file, over another."""
    request = Request(file, name, copy=True, overwrite=True)
    take_in(check(request, library.registry, library.store), library.store, lambda share: None)


@pytest.fixture
def target(library: Library, tiny_gguf: Path) -> Target:
    """whale:F32, as it was when verify began."""
    put(library, tiny_gguf, "whale:F32")
    (found,) = whole_store(library)
    return found


def outcome(target: Target, library: Library) -> Report:
    return verify(target, library, lambda n_bytes: None)


def test_what_is_removed_meanwhile_is_told_as_that(target: Target, library: Library) -> None:
    for level in doomed("whale", library.registry, library.store):
        remove(level)

    report = outcome(target, library)

    assert report.change == "was removed while it was verified"
    assert (report.findings, report.is_sound) == ((), False)
    assert report.as_data()["change"] == report.change


def test_what_is_removed_in_the_middle_is_told_as_that(target: Target, library: Library) -> None:
    def remove_it(n_bytes: float) -> None:
        target.files[0].unlink(missing_ok=True)

    if os.name == "nt":
        pytest.skip("an open file cannot be removed")
    assert verify(target, library, remove_it).change == "was removed while it was verified"


def test_what_is_replaced_meanwhile_is_no_damage(
    target: Target, library: Library, tmp_path: Path
) -> None:
    put(library, tiny_llama.write_gguf(tmp_path / "other.gguf", seed=9), "whale:F32")

    report = outcome(target, library)

    assert report.change == "was replaced while it was verified; verify it again"
    assert report.findings == ()


def test_noting_its_use_is_no_change(target: Target, library: Library) -> None:
    path = target.files[0]
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    assert target.manifest is not None
    later = {**vars(target.manifest), "last_used": "2030-01-01T00:00:00Z"}
    write_manifest(library.store.manifest_path("whale", "F32"), type(target.manifest)(**later))

    report = outcome(target, library)

    assert report.change == ""
    assert "its SHA-256 is" in report.findings[0].what


def test_the_rest_is_verified_all_the_same(
    target: Target, library: Library, tiny_gguf: Path
) -> None:
    put(library, tiny_gguf, "other:F32")
    targets = whole_store(library)
    for level in doomed("other", library.registry, library.store):
        remove(level)

    reports = [outcome(one, library) for one in targets]

    assert [(report.target.name, report.is_sound) for report in reports] == [
        ("other", False),
        ("whale", True),
    ]
