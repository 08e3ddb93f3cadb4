"""JSON files: what is forgiven and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from convert.sources.json_file import parse_json, read_json
from tests.convert.refused import refused


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        (b'\xef\xbb\xbf{"a": 1}\r\n', {"a": 1}),  # a byte order mark, as Windows writes it
        ('"鯨"'.encode(), "鯨"),
    ],
)
def test_values(data: bytes, value: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(data)
    assert read_json(tmp_path / "config.json") == value


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no valid JSON"),
        (b'{"a": 1', "no valid JSON"),
        (b"\xff\xfe{}", "no valid JSON"),
        (b"{'a': 1}", "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b"1" * 5000, "no valid JSON"),  # more digits than Python reads
        (b'{"a": 1, "a\\n": 2, "b": {"a\\n": 1, "a\\n": 2}}', r"'a\n' stands there twice"),
    ],
)
def test_damaged_text(data: bytes, what: str) -> None:
    refused(lambda: parse_json(data, "config.json"), "config.json: ", what, "fetch or copy")


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"{}")
    os.truncate(path, 1 << 40)  # takes no room
    refused(lambda: read_json(path), path, "over 64 MB", "fetch or copy")
    path.write_bytes(b"[1, 2]")
    refused(lambda: read_json(path, limit_bytes=5), path, "fetch or copy")
    assert read_json(path, limit_bytes=6) == [1, 2]


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(lambda: read_json(tmp_path), tmp_path, "no regular file", "copy it")
    refused(lambda: read_json(tmp_path / "x.json"), "x.json", "No such file", "copy it")


if hasattr(os, "mkfifo"):

    def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "config.json")
        refused(lambda: read_json(tmp_path / "config.json"), "config.json", "no regular file")
