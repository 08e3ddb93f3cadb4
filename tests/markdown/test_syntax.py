"""The colours of code."""

from __future__ import annotations

import random
import time

import pytest

from fwlocal.markdown.syntax import LANGUAGES, highlighter

PARTS = (
    "/*", "*/", "<!--", "-->", '"', "'", "`", "{", "}", "(", ")", "<?php", "<a b='c'>", "x = 1",
    "#c", "//", "$(", "<<E", "{{", "{%", "\\", "  ", "é中", "|", "::", "[", "--", "$ ", ">>> ",
)  # fmt: skip
COMMENT = "2;3"


def colored(info: str, code: str) -> list[list[tuple[str, str]]]:
    """Each line of a block."""
    found = highlighter(info)
    assert found is not None
    return [found.line(line) for line in code.split("\n")]


def test_states_go_on_over_lines() -> None:
    assert [line[0] for line in colored("python", '"""a\nb\n"""\n1')] == [
        ("32", '"""a'), ("32", "b"), ("32", '"""'), ("33", "1"),
    ]  # fmt: skip


@pytest.mark.parametrize("info", ["js", "c", "java", "go", "rust", "css", "sql", "ts", "cpp"])
def test_a_comment_goes_on_over_lines(info: str) -> None:
    first, second, third = colored(info, "/* a\n b\n c */ 1")
    assert [first, second, third[0]] == [[(COMMENT, "/* a")], [(COMMENT, " b")], (COMMENT, " c */")]


def test_a_comment_in_a_string_is_none() -> None:
    _, second = colored("js", "s = '/* no';\nreturn 1;")
    assert second[0] == ("35", "return ")


@pytest.mark.parametrize("info", ["", "nonsense", "mcschema", "!", "text"])
def test_an_unknown_language_has_no_colors(info: str) -> None:
    assert highlighter(info) is None


@pytest.mark.parametrize("info", ["{.python}", "Python", "py title=x", "python3"])
def test_names_are_found_in_all_manners(info: str) -> None:
    assert highlighter(info) is not None


def test_every_language_shows_every_text_in_time() -> None:
    draw = random.Random(1)
    for name in sorted(LANGUAGES):
        found = highlighter(name)
        assert found is not None, name
        started = time.perf_counter()
        for _ in range(4):
            line = " ".join(draw.choices(PARTS, k=8))
            assert "".join(text for _, text in found.line(line)) == line, name
        assert time.perf_counter() - started < 2, name
