"""How answers are written: as text while they come, as JSON at the end, or as JSON lines of events.

Of text, a line ``--- 2 of 3 ---`` on stdout always is the program's own, where several answers were
asked for: an answer's line that is spelled like one gets a space before it. JSON has every answer
as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TextIO

from fwlocal.answer import Generation, Result
from fwlocal.loader.ahead import PlannedDraft
from fwlocal.offload import OffloadPlan, where_layers_are
from fwlocal.terminal import inert

Describe = Callable[[Result], dict[str, object]]

# JSON itself escapes what is below 0x20 only.
_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
_SEPARATOR = re.compile(r"--- [0-9]+ of [0-9]+ ---")
_COULD_BE_SEPARATOR = re.compile(r"-{0,3}|--- [0-9of -]*\s*")


class Form(Enum):
    """What is written to stdout."""

    TEXT = "text"
    JSON = "json"
    EVENTS = "jsonl"


@dataclass(frozen=True)
class Output:
    """How the answer is written, and where. ``quiet`` leaves notices out, ``fail_on_length`` makes
    an answer that was cut an error."""

    stdout: TextIO
    stderr: TextIO
    form: Form = Form.TEXT
    stats: bool = False
    quiet: bool = False
    fail_on_length: bool = False


class Writer:
    """Writes ``n`` answers to ``output``, one after the other; None is one that is no list."""

    def __init__(self, output: Output, n: int | None, describe: Describe) -> None:
        self._output, self._n, self._describe = output, n, describe
        self._records: list[dict[str, object]] = []
        self._written = 0

    def write(self, generation: Generation) -> Result:
        """Take all of an answer."""
        self._written += 1
        _WRITE[self._output.form](self, generation)
        self._output.stdout.flush()
        return generation.result

    def end(self) -> None:
        """Write what waits for the last answer."""
        if self._output.form is Form.JSON and self._records:
            whole = self._records[0] if self._n is None else self._records
            self._line(whole)
            self._output.stdout.flush()

    def _text(self, generation: Generation) -> None:
        stdout = self._output.stdout
        pieces: Iterable[str] = generation
        if (self._n or 1) > 1:
            pieces = without_separators(generation)
            if self._written > 1:
                stdout.write(f"--- {self._written} of {self._n} ---\n")
        shown = inert if stdout.isatty() else str
        for text in ending_in_one_newline(pieces):
            stdout.write(shown(text))
            stdout.flush()

    def _record(self, generation: Generation) -> None:
        for _ in generation:
            pass
        self._records.append(self._describe(generation.result))

    def _events(self, generation: Generation) -> None:
        for text in generation:
            self._line({"event": "piece", "answer": self._written, "text": text})
            self._output.stdout.flush()
        record = self._describe(generation.result)
        self._line({"event": "end", "answer": self._written, **record})

    def _line(self, data: object) -> None:
        self._output.stdout.write(json_text(data) + "\n")


_WRITE = {Form.TEXT: Writer._text, Form.JSON: Writer._record, Form.EVENTS: Writer._events}


def json_text(data: object, indent: int | None = None) -> str:
    """JSON in which no character drives a terminal, or ends a line for any reader."""
    return json.dumps(data, ensure_ascii=False, indent=indent).translate(_ESCAPED)


def ending_in_one_newline(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces, but with exactly one newline at the end of all."""
    held = ""
    for piece in pieces:
        text = held + piece
        kept = text.rstrip("\n")
        held = text[len(kept) :]
        if kept:
            yield kept
    yield "\n"


def without_separators(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces, with a space before each whole line that is spelled like a separator. A line is
    held back only while it could become one."""
    held, is_line_start = "", True
    for piece in pieces:
        for text in _lines(piece):
            held = held + text if is_line_start else text
            ended = text.endswith("\n")
            if is_line_start and not ended and _COULD_BE_SEPARATOR.fullmatch(held):
                continue
            yield _set_apart(held) if is_line_start else held
            held, is_line_start = "", ended
    if held:
        yield _set_apart(held)


def _lines(text: str) -> list[str]:
    """Lines by newlines alone, each with its own."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _set_apart(line: str) -> str:
    return f" {line}" if _SEPARATOR.fullmatch(line.rstrip()) else line


def stats_line(
    result: Result, plan: OffloadPlan, unkept: str = "", draft: PlannedDraft | None = None
) -> str:
    """Counts and speeds in one line; what saved work and what was tuned, where anything was.
    ``unkept`` is why the prompt is evaluated again next time, if it is; ``draft`` is the model that
    drafts."""
    t = result.timings
    return (
        f"[{result.finish_reason}] {_prompt(result)} at {t.prefill_tps:.1f} tok/s, "
        f"{_answer(result)}, load {t.load_s:.2f} s, "
        f"{f'first token {t.ttft_s:.2f} s, ' if result.completion_tokens else ''}"
        f"seed {result.seed}; {where_layers_are(plan)}{draft_remark(draft)}{tuned_remark(plan)}"
        f"{f'; the prompt is not kept: {unkept}' if unkept else ''}"
    )


def _prompt(result: Result) -> str:
    """How much of it was read: not all, where it was stopped before the first token."""
    t, n_tokens = result.timings, result.prompt_tokens
    n_read = n_tokens
    if result.finish_reason == "interrupt" and not result.completion_tokens:
        n_read = min(n_tokens, result.reused_tokens + round(t.prefill_tps * t.prefill_s))
    count = f"{n_read} of {n_tokens}" if n_read < n_tokens else f"{n_tokens}"
    restored = ", from the prefix cache" if result.n_restored else ""
    return f"prompt {count} tokens ({result.reused_tokens} reused{restored})"


def _answer(result: Result) -> str:
    if not result.completion_tokens:
        return "no answer"
    drafted = f" ({result.n_accepted} of {result.n_drafted} drafted accepted)"
    return (
        f"answer {result.completion_tokens} tokens at {result.timings.decode_tps:.1f} tok/s"
        f"{drafted if result.n_drafted else ''}"
    )


def draft_remark(draft: PlannedDraft | None) -> str:
    """Behind a line on a plan: which model drafts, and where it is; "" where none does."""
    if draft is None:
        return ""
    return f"; {draft.draft.file.name} drafts, {where_layers_are(draft.settled.plan)}"


def tuned_remark(plan: OffloadPlan) -> str:
    """Behind a line on a plan: which settings ``fwlocal tune`` chose; "" where it chose none."""
    return f"; tuned: {', '.join(plan.tuned)}" if plan.tuned else ""
