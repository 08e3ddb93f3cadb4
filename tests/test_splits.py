"""The names of split files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.splits import SplitName, parse, part_name, parts_of, stem_of


@given(st.text(min_size=1), st.data())
def test_a_parts_name_says_what_it_was_made_from(stem: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 99999))
    number = data.draw(st.integers(1, count))
    assert parse(part_name(stem, number, count)) == SplitName(stem, number, count)


@pytest.mark.parametrize(
    "name",
    [
        "m.gguf",
        "m-00001-of-00002.ggu",
        "m-00003-of-00002.gguf",
        "m-00000-of-00002.gguf",
        "m-00000-of-00000.gguf",
        "m-1-of-2.gguf",
        "-00001-of-00002.gguf",
        "m-٠٠٠٠١-of-٠٠٠٠٢.gguf",
        "",
    ],
)
def test_other_names_are_no_parts(name: str) -> None:
    assert parse(name) is None


def test_any_part_leads_to_all() -> None:
    parts = [Path("a", f"m-0000{number}-of-00003.gguf") for number in (1, 2, 3)]
    assert all(parts_of(part) == parts for part in parts)
    assert parts_of(Path("a", "m.gguf")) == [Path("a", "m.gguf")]


def test_stems() -> None:
    assert stem_of("m-Q4_K_M-00002-of-00003.gguf") == stem_of("m-Q4_K_M.gguf") == "m-Q4_K_M"
