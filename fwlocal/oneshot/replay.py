"""``fwlocal replay``: an answer that ``--json`` recorded, asked for again and compared.

The same file, llama.cpp and devices give the same text. Where it differs, what is not as it was
then is named; nothing of it is an error by itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import BinaryIO

from fwlocal.errors import FwlocalError, Interrupted, UsageError
from fwlocal.interrupts import catching
from fwlocal.loader import LoadedModel
from fwlocal.oneshot.answering import generate, identified
from fwlocal.oneshot.asking import parse_json, read_text
from fwlocal.oneshot.record import DRAFTED_TOKENS, PROMPT_TOKENS, Recorded, recorded, setting_of
from fwlocal.oneshot.writing import Output
from fwlocal.terminal import inert

AROUND = 30  # characters shown of each text from where they part


@dataclass(frozen=True)
class Verdict:
    """Both texts, and what is not as it was: each as its name, then, now."""

    then: str
    now: str
    changed: tuple[tuple[str, object, object], ...]

    @property
    def same(self) -> bool:
        """Whether the text is the same."""
        return self.then == self.now

    @property
    def parting(self) -> int:
        """The first character that differs; the length of a text that the other goes on from."""
        pairs = zip(self.then, self.now, strict=False)
        shorter = min(len(self.then), len(self.now))
        return next((index for index, (a, b) in enumerate(pairs) if a != b), shorter)


def read_records(path: str, stdin: BinaryIO | None) -> list[Recorded]:
    """The answers in a file, "-" for stdin: what ``--json`` printed, with ``-n`` or without, or the
    lines of ``--jsonl``. Raises FwlocalError and UsageError, which name the field."""
    text, where = read_text(path, stdin)
    data = _objects(text, where)
    if not data:
        raise UsageError(f"{where}: holds no answer")
    several = len(data) > 1
    names = [
        f"{where}: answer {number}" if several else where for number in range(1, len(data) + 1)
    ]
    found = [recorded(one, name) for one, name in zip(data, names, strict=True)]
    for name, answer in zip(names, found, strict=True):
        if answer.finish_reason not in ("stop", "length", "interrupt"):
            raise UsageError(f"{name}: 'finish_reason' is {answer.finish_reason!r}")
        if _loads(answer) != _loads(found[0]):
            raise UsageError(f"{name}: is of another model or setting; replay it from its own file")
    return found


def replay(loaded: LoadedModel, record: Recorded, output: Output) -> Verdict:
    """Ask again. Raises Interrupted when it is stopped before the end."""
    engine, question = loaded.engine, record.question
    if record.finish_reason != "stop":  # at whatever limit, or by whom
        question = replace(question, max_tokens=max(record.completion_tokens, 1))
    with catching(engine.interrupt):
        engine.reset()
        if record.kept_tokens:  # llama.cpp's sums depend on what is evaluated at once
            list(generate(loaded, replace(question, max_tokens=1)))
        generation = generate(loaded, question)
        list(generation)
        sha256 = identified(loaded, output)
    result = generation.result
    if engine.interrupt.is_set():
        raise Interrupted(exit_code=engine.interrupt.exit_code)
    now = setting_of(result, loaded, sha256)
    changed = tuple(
        (name, then, now[name])
        for name, then in record.setting.items()
        if None not in (then, now[name]) and then != now[name]
    )
    return Verdict(record.text, result.text, changed)


def as_data(verdict: Verdict) -> dict[str, object]:
    """For ``--json``; ``differs_at`` counts characters from 0, None for the same text."""
    return {
        "same": verdict.same,
        "differs_at": None if verdict.same else verdict.parting,
        "text": verdict.now,
        "recorded_text": verdict.then,
        "changed": [
            {"what": name, "then": then, "now": now} for name, then, now in verdict.changed
        ],
    }


def lines(verdict: Verdict) -> str:
    """For people."""
    if verdict.same:
        return f"the same text, {len(verdict.now)} characters\n"
    start = verdict.parting
    shown = [f"another text, from character {start} on\n"]
    for name, text in (("then", verdict.then), ("now", verdict.now)):
        rest = json.dumps(text[start : start + AROUND], ensure_ascii=False)
        shown.append(f"  {name:<4}  {inert(rest)}\n")
    changes = [
        f"  {name}: {inert(str(then))} then, {now} now\n" for name, then, now in verdict.changed
    ]
    shown += changes or ["  nothing else that is recorded has changed\n"]
    return "".join(shown)


def _loads(record: Recorded) -> tuple[object, ...]:
    """What a loaded model must have in common with it."""
    own = (PROMPT_TOKENS, DRAFTED_TOKENS)  # each answer's
    setting = (str(value) for name, value in record.setting.items() if name not in own)
    return record.model, record.question.prompt_format, *setting


def _objects(text: str, where: str) -> list[object]:
    """The answers' JSON: one, a list of them, or those in lines of events."""
    try:
        whole = parse_json(text)
    except ValueError as error:
        if not text.strip():
            raise UsageError(f"{where}: holds no answer") from None
        return _of_events(text, where, error)
    if isinstance(whole, dict) and whole.get("event") == "piece":
        raise UsageError(f"{where}: has no end event; the answer was cut off")
    return whole if isinstance(whole, list) else [whole]


def _of_events(text: str, where: str, error: ValueError) -> list[object]:
    found: list[object] = []
    try:
        for line in filter(str.strip, text.split("\n")):
            event = parse_json(line)
            if not isinstance(event, dict) or "event" not in event:
                raise ValueError
            if event["event"] == "end":
                found.append(event)
    except ValueError:
        raise FwlocalError(f"{where}: is no valid JSON: {error}") from None
    if not found:
        raise UsageError(f"{where}: has no end event; the answer was cut off")
    return found
