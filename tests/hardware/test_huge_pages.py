"""The kernel's word on huge pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.hardware import huge_pages


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("always [madvise] never\n", "madvise"),
        ("[always] madvise never\n", "always"),
        ("always madvise [never]\n", "never"),
        ("", ""),
        ("\N{WHALE}", ""),
    ],
)
def test_the_word_in_brackets(tmp_path: Path, text: str, word: str) -> None:
    enabled = tmp_path / "enabled"
    enabled.write_text(text, encoding="utf-8")

    assert huge_pages(enabled) == word


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert huge_pages(tmp_path / "none") == ""
