"""A result as Markdown, read back by a Markdown parser."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fwlocal.bench.markdown import escaped, fenced, markdown
from fwlocal.bench.result import BenchResult, Verdict
from tests.bench import sample
from tests.bench.any_result import results

PARSER = MarkdownIt("commonmark").enable("table")


def text_of(source: str) -> str:
    """What a reader sees of a line, without its markup."""
    (inline,) = (token for token in PARSER.parse(source) if token.type == "inline")
    return "".join(child.content for child in inline.children or ())


def rows_of(source: str) -> list[list[str]]:
    """The cells of the table, the headings first, as a reader sees them."""
    rows: list[list[str]] = []
    for token in PARSER.parse(source):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append("".join(child.content for child in token.children or ()))
        elif token.type == "table_close":
            break
    return rows


def test_a_table_with_every_column() -> None:
    headings, *rows = rows_of(markdown(sample.FULL))
    assert headings[:3] == ["LEVEL", "SIZE", "BITS"]
    assert [row[0] for row in rows] == ["Q8_0 ref *", "Q6_K *", "Q5_K_M *", "Q4_K_M *", "Q4_0"]
    assert rows[3][headings.index("KLD")] == "0.0213 ± 0.0004"
    assert rows[2][headings.index("KLD")].startswith("≈ ")


def test_the_level_to_take_is_bold() -> None:
    assert "| **Q4_K_M \\*** |" in markdown(sample.FULL)


def test_machine_versions_and_command_stand_under_it() -> None:
    source = markdown(sample.FULL)
    table, below = source.split("\n\n", 1)
    assert table.startswith("| LEVEL |")
    assert "```sh\nfwlocal run -m whale-135m:Q4_K_M\n```\n" in below
    for fact in ("NVIDIA GeForce RTX 4090", "llama.cpp 0.3.36", "moby-dick.txt", "3 rounds"):
        assert fact in below


def test_a_problem_is_told() -> None:
    assert f"- F32: {sample.PROBLEM}\n" in markdown(sample.WITH_PROBLEMS)


def test_the_verdict_stands_right_under_the_table_and_short_reads_are_told() -> None:
    short = replace(
        sample.LEVELS[4], quality=sample.quality(0.05, 17.2, n_chunks=1), problem="lost"
    )
    source = markdown(replace(sample.FULL, levels=(*sample.LEVELS[:2], short)))
    _, verdict, _, notes = source.split("\n\n", 3)
    assert text_of(verdict) == "Q4_K_M is the fastest level with a KLD of at most 0.03."
    headings, *rows = rows_of(source)
    assert [row[headings.index("CHUNKS")] for row in rows] == ["32 of 32", "32 of 32", "1 of 32"]
    assert notes.startswith("- Q4_0: failed later: lost\n")


@pytest.mark.parametrize("result", sample.ALL)
def test_it_is_deterministic_and_ends_with_one_newline(result: BenchResult) -> None:
    assert markdown(result) == markdown(result)
    assert re.search(r"[^\n]\n\Z", markdown(result))


@pytest.mark.parametrize("label", ["a|b", "*x*", "_y_", "<b>", "`c`", "[d](e)", "&amp;", "~~f~~"])
def test_labels_are_no_markup(label: str) -> None:
    levels = (replace(sample.LEVELS[1], label=label),)
    result = replace(sample.ONE_LEVEL, levels=levels, verdict=Verdict())
    assert rows_of(markdown(result))[1][0] == label


def test_a_command_with_backticks_stays_in_its_fence() -> None:
    source = fenced("echo ```\nls")
    (token,) = PARSER.parse(source)
    assert (token.type, token.content) == ("fence", "echo ``` ls\n")


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)


@given(words)
@example("__0__")
def test_escaped_text_is_read_as_it_was(text: str) -> None:
    assert text_of(f"x {escaped(text)} x") == f"x {text} x"


@settings(max_examples=40, deadline=None)
@given(results)
def test_any_result(result: BenchResult) -> None:
    headings, *rows = rows_of(markdown(result))
    assert len(rows) == len(result.levels)
    assert all(len(row) == len(headings) for row in rows)
