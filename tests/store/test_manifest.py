"""What is remembered about a stored level, and nonsense that is as good as nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.store.manifest import (
    ROADS,
    Manifest,
    ManifestFile,
    day_of,
    manifest_path,
    now,
    read_manifest,
    write_manifest,
)

SOUND = Manifest(
    "whale",
    "Q4_K_M",
    (ManifestFile("whale-Q4_K_M.gguf", 5, "0" * 64), ManifestFile("b.gguf", 0, None)),
    "download",
    "owner/whale",
    revision="abc",
    licence="MIT",
    prompt_format="chatml",
    added="2024-01-31T12:00:00Z",
)


def changed(**changes: Any) -> bytes:
    """The sound manifest with other values."""
    data = {
        "name": "whale",
        "level": "Q4_K_M",
        "files": [{"name": "whale-Q4_K_M.gguf", "size_bytes": 5, "sha256": None}],
        "road": "import",
        "source": "a file",
    }
    return json.dumps({**data, **changes}).encode()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = manifest_path(tmp_path, "whale-Q4_K_M")
    write_manifest(path, SOUND)
    assert path.name == "whale-Q4_K_M.json"
    assert read_manifest(path) == SOUND
    assert list(tmp_path.iterdir()) == [path]


@given(st.builds(Manifest, name=st.text(min_size=1), level=st.text(min_size=1),
                 files=st.just(SOUND.files), road=st.sampled_from(ROADS), source=st.text(),
                 added=st.text(), last_used=st.text()))  # fmt: skip
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> None:
    path = tmp_path_factory.mktemp("any") / "m.json"
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    assert day_of(manifest.added) == ""


def test_keys_of_later_versions_are_ignored_and_missing_texts_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(changed(colour="blue"))
    manifest = read_manifest(path)
    assert manifest is not None
    assert (manifest.source, manifest.licence, manifest.last_used) == ("a file", "", "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'"' + b"x" * (2 << 20) + b'"',
        changed(road="magic"),
        changed(level=""),
        changed(added=5),
        changed(files=[]),
        changed(files={}),
        changed(files=7),
        changed(files=[{}]),
        changed(files=["a"]),
        *(
            changed(files=[{"name": name, "size_bytes": 1, "sha256": None}])
            for name in ("../m.gguf", "a/m.gguf", "a\\m.gguf", "C:m.gguf", "..", ".m", "", "a\n", 5)
        ),
        *(
            changed(files=[{"name": "m.gguf", "size_bytes": size, "sha256": None}])
            for size in (-1, 1.5, True, "1", None)
        ),
        *(
            changed(files=[{"name": "m.gguf", "size_bytes": 1, "sha256": sha}])
            for sha in ("", "0" * 63, "G" * 64, 5)
        ),
    ],
)
def test_nonsense_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(content)
    assert read_manifest(path) is None


@given(st.binary())
def test_any_bytes_are_no_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "m.json"
    path.write_bytes(content)
    assert read_manifest(path) is None


def test_a_missing_one_a_folder_and_a_loop_are_none(tmp_path: Path) -> None:
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    for path in (tmp_path / "none.json", tmp_path, loop):
        assert read_manifest(path) is None


@pytest.mark.parametrize(
    ("stamp", "day"),
    [
        ("2024-01-31T12:00:00Z", "2024-01-31"),
        ("9999-12-31T23:59:59Z", "9999-12-31"),
        ("2024-02-31T12:00:00Z", ""),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_days(stamp: str, day: str) -> None:
    assert day_of(stamp) == day


def test_now_is_a_moment_with_a_day() -> None:
    assert now().startswith(day_of(now()))
