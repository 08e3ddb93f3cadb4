"""A result as Markdown for a README: GitHub's table, and under it the machine and the versions.

The same result gives the same text. https://github.github.com/gfm/#tables-extension-
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fwlocal.bench.columns import cells, is_measured, measures_of, named
from fwlocal.bench.notes import facts, legend, not_numbers, problems, ties_of
from fwlocal.bench.result import BenchResult
from fwlocal.terminal import inert

# What would be markup; a single underscore inside a word is none.
_MARKUP = re.compile(r"[\\`*\[\]<>|~#&]|(?<![^\W_])_|_(?![^\W_])")
_FENCE = re.compile("`+")


def markdown(result: BenchResult) -> str:
    """The table with all columns, the verdict, and what the figures rest on."""
    verdict = result.verdict
    measures = measures_of(result.levels)
    rows = []
    for level in result.levels:
        label = escaped(named(level, verdict.front))
        label = f"**{label}**" if level.label == verdict.label else label
        found = [escaped(cell) for cell in cells(level, measures, result.differences)]
        is_blank = level.problem and not is_measured(level)
        rows.append([label, *([""] * len(measures) if is_blank else found)])
    headings = [measure.heading for measure in measures]
    remarks = (*problems(result), *not_numbers(result), *ties_of(result, headings))
    notes = (*legend(result, headings), *facts(result))
    blocks = (
        table(["LEVEL", *headings], rows),
        f"{escaped(verdict.reason)}\n" if verdict.reason else "",
        fenced(verdict.command) if verdict.command else "",
        bullets((*remarks, *notes)),
    )
    return "\n".join(filter(None, blocks))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], n_left: int = 1) -> str:
    """The first ``n_left`` columns to the left, the others to the right; cells are Markdown
    already."""
    ruler = [*("---" for _ in headings[:n_left]), *("---:" for _ in headings[n_left:])]
    lines = ([escaped(heading) for heading in headings], ruler, *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """A list of plain text."""
    return "".join(f"- {escaped(line)}\n" for line in lines)


def fenced(command: str) -> str:
    """A command, to be copied."""
    text = _one_line(command)
    fence = "`" * max(3, 1 + max(map(len, _FENCE.findall(text)), default=0))
    return f"{fence}sh\n{text}\n{fence}\n"


def escaped(text: str) -> str:
    """Plain text in one line that no Markdown reads as markup."""
    return _MARKUP.sub(r"\\\g<0>", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(inert(text).split())
