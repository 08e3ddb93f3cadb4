"""What stands behind /ab, and which file lies beside which."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.ab.asked import Asked, is_level, parse, sibling
from fwlocal.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("Q4_K_M Q8_0", Asked(("Q4_K_M", "Q8_0"))),
        ("  Q8_0 ", Asked(("Q8_0",))),
        ("Q4_0 Q8_0 Why is  it\nblue?", Asked(("Q4_0", "Q8_0"), "Why is  it\nblue?")),
        ("'my models/a.gguf' \"b c.gguf\" hi", Asked(("my models/a.gguf", "b c.gguf"), "hi")),
        (r"C:\models\a.gguf Q8_0", Asked((r"C:\models\a.gguf", "Q8_0"))),
    ],
)
def test_two_names_and_a_message(typed: str, asked: Asked) -> None:
    assert parse(typed) == asked


def test_nothing_is_explained() -> None:
    with pytest.raises(UsageError, match="/ab Q4_K_M Q8_0"):
        parse("  ")


@pytest.mark.parametrize("word", ["Q4_K_M", "q8_0", "IQ2_XXS", "f16", "FP16", "BF16", "UD-Q4_K_XL"])
def test_levels_are_known_by_their_look(word: str) -> None:
    assert is_level(word)


@pytest.mark.parametrize("word", ["whale", "whale:Q8_0", "whale-Q8_0.gguf", "./Q8_0", ""])
def test_other_words_are_no_levels(word: str) -> None:
    assert not is_level(word)


def test_the_sibling_of_a_file_differs_in_its_level_alone() -> None:
    assert sibling(Path("m/whale-Q4_K_M.gguf"), "q8_0") == Path("m/whale-Q8_0.gguf")
    assert sibling(Path("whale.q4_0.gguf"), "Q8_0") == Path("whale.q8_0.gguf")
    assert sibling(Path("whale.gguf"), "Q8_0") is None
