"""The format of a session's file: JSON lines, a header and then one event each.

A line is what happened, with its time in UTC; no line is ever changed. ``piece`` is a stretch of an
answer while it is written; the ``assistant`` line that ends the answer has all of its text.
``continue`` is the wish that the last answer goes on; ``continued`` ends that, and has what was
added. What the events make of a conversation, this module does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

VERSION = 1
MAX_LINE_BYTES = 64 << 20
_ANSWERS = ("assistant", "continued")
_WITH_TEXT = ("user", "edit", "piece", *_ANSWERS, "system")
KINDS = (*_WITH_TEXT, "retry", "continue", "unanswered", "undo")
_PIECE = b'{"event": "piece", '

Value = TypeVar("Value")


class Nonsense(Exception):
    """A line that says nothing, and in a few words why."""


class NewerFormat(Exception):
    """The header of a format that this version does not know."""


@dataclass(frozen=True)
class Speaker:
    """Who answers: ``model`` is what finds it again, NAME:LEVEL or a path; ``prompt_format`` None
    for raw prompts. "" where it is not known."""

    model: str = ""
    level: str | None = None
    prompt_format: str | None = None


@dataclass(frozen=True)
class Header:
    """The first line."""

    created: str
    speaker: Speaker
    system: str | None


@dataclass(frozen=True)
class Said:
    """How an answer came about, as in ``fwlocal.answer.Result``; ``sampling`` is SamplingParams
    without the seed."""

    speaker: Speaker = Speaker()
    seed: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused_tokens: int = 0
    timings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One of KINDS. ``n_turns`` is of an undo, ``said`` of an answer or what was added to one;
    ``n_dropped`` characters of that answer give way to what was added."""

    kind: str
    time: str
    text: str = ""
    n_turns: int = 0
    said: Said | None = None
    n_dropped: int = 0


Line = Header | Event


def as_data(line: Line) -> dict[str, Any]:
    """The line as plain data, its keys in the order in which a reader wants them."""
    if isinstance(line, Header):
        head = {"event": "session", "version": VERSION, "created": line.created}
        return {**head, **asdict(line.speaker), "system": line.system}
    data: dict[str, Any] = {"event": line.kind, "time": line.time}
    if line.kind in _WITH_TEXT:
        data["text"] = line.text
    if line.kind == "undo":
        data["turns"] = line.n_turns
    if line.n_dropped:
        data["dropped"] = line.n_dropped
    return {**data, **(said_data(line.said) if line.said else {})}


def said_data(said: Said) -> dict[str, Any]:
    """The same of an answer."""
    data = asdict(said)
    return {**data.pop("speaker"), **data}


def encode(line: Line) -> bytes:
    """The line as it stands in the file, newline included."""
    data = as_data(line)
    try:
        return json.dumps(data, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, from a paste
        return json.dumps(data).encode() + b"\n"


def is_piece(line: bytes) -> bool:
    """Whether it begins as ``encode`` begins a piece; the rest is not looked at, which is quick."""
    return line.startswith(_PIECE)


def decode(line: bytes) -> Line:
    """What a line says. Raises Nonsense, and NewerFormat.

    Facts about an answer that are of a wrong type are left out: its text is what matters.
    """
    if len(line) > MAX_LINE_BYTES:
        raise Nonsense("too long")
    try:
        data = json.loads(line.decode())
    except UnicodeDecodeError:
        raise Nonsense("not UTF-8") from None
    except (ValueError, RecursionError):
        raise Nonsense("not JSON") from None
    if not isinstance(data, dict):
        raise Nonsense("not a JSON object")
    kind = data.get("event")
    if kind == "session":
        return _header(data)
    if kind not in KINDS:
        raise Nonsense("no event that is known")
    return _event(kind, data)


def _header(data: dict[str, Any]) -> Header:
    version = data.get("version")
    if type(version) is int and version > VERSION:
        raise NewerFormat(f"format {version}")
    if version != VERSION:
        raise Nonsense("a header without its version")
    return Header(_take(data, "created", str, ""), _speaker(data), _take(data, "system", str, None))


def _event(kind: str, data: dict[str, Any]) -> Event:
    text, n_turns = data.get("text", ""), data.get("turns", 0)
    if kind in _WITH_TEXT and not ("text" in data and isinstance(text, str)):
        raise Nonsense("its text is missing or is none")
    if kind == "undo" and not (type(n_turns) is int and n_turns > 0):
        raise Nonsense("its number of turns is missing or is none")
    return Event(
        kind=kind,
        time=_take(data, "time", str, ""),
        text=text if kind in _WITH_TEXT else "",
        n_turns=n_turns if kind == "undo" else 0,
        said=_said(data) if kind in _ANSWERS else None,
        n_dropped=max(0, _take(data, "dropped", int, 0)) if kind == "continued" else 0,
    )


def _speaker(data: dict[str, Any]) -> Speaker:
    return Speaker(
        _take(data, "model", str, ""),
        _take(data, "level", str, None),
        _take(data, "prompt_format", str, None),
    )


def _said(data: dict[str, Any]) -> Said:
    return Said(
        speaker=_speaker(data),
        seed=_take(data, "seed", int, None),
        sampling=_take(data, "sampling", dict, {}),
        finish_reason=_take(data, "finish_reason", str, ""),
        prompt_tokens=_take(data, "prompt_tokens", int, 0),
        completion_tokens=_take(data, "completion_tokens", int, 0),
        reused_tokens=_take(data, "reused_tokens", int, 0),
        timings=_take(data, "timings", dict, {}),
    )


def _take(data: dict[str, Any], key: str, kind: type[Value], default: Any) -> Any:
    value = data.get(key)
    return value if type(value) is kind else default
