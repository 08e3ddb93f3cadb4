"""Where an unfinished file comes from, as the notes beside it tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.store.beginnings import Beginning, beginning_of

NAME = "m-Q4_0.gguf"


def note(folder: Path, kind: str, content: str | bytes) -> Path:
    """The file that the note is of."""
    data = content.encode() if isinstance(content, str) else content
    (folder / f".{NAME}.{kind}").write_bytes(data)
    return folder / NAME


def test_a_download_tells_its_repository_and_file(tmp_path: Path) -> None:
    identity = ["owner/Whale-GGUF", "w.Q4_0.gguf", "9", "etag"]
    path = note(tmp_path, "download", json.dumps({"identity": identity, "commit": "abc"}))
    found = Beginning("download", "owner/Whale-GGUF", "abc", "w.Q4_0.gguf")
    assert beginning_of([tmp_path / "other.gguf", path]) == found


def test_a_conversion_tells_its_source_and_base(tmp_path: Path) -> None:
    first = {
        "identity": "0" * 64,
        "fwlocal.source": "owner/Delta",
        "fwlocal.source.revision": "abc",
        "fwlocal.base": "owner/Base",
    }
    journal = f'{json.dumps(first)}\n{{"tensor": "a", "sha256": "b"}}\n{{"cut sho'
    path = note(tmp_path, "journal", journal)
    assert beginning_of([path]) == Beginning("convert", "owner/Delta", "abc", base="owner/Base")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 50_000,
        b'{"identity": "owner/repo"}',
        b'{"identity": ["owner/repo"]}',
        b'{"identity": [1, 2]}',
        b'{"identity": ["a\\u001b", "b"]}',
        b'{"fwlocal.source": 5}',
        b'{"fwlocal.source": "',
    ],
)
@pytest.mark.parametrize("kind", ["download", "journal"])
def test_nonsense_tells_nothing(tmp_path: Path, kind: str, content: bytes) -> None:
    assert beginning_of([note(tmp_path, kind, content)]) is None


@given(st.binary())
def test_any_bytes_are_no_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for kind in ("download", "journal"):
        path = note(folder, kind, content)
    beginning_of([path])
