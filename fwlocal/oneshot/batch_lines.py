"""The lines of a batch: what each asks, or why it cannot be asked.

A line is a JSON object with ``prompt`` or ``messages``, and options of its own. Blank lines are
nothing. What the model and the command line add is ``batch_question``'s.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fwlocal import llama
from fwlocal.errors import FwlocalError, UsageError
from fwlocal.oneshot.asking import check_turns, checked, kind, parse_json, parse_messages
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams

Id = str | int | float

_BLANK = codecs.BOM_UTF8 + b" \t\r\n"
_NUMBER, _TEXT = (int, float), (str,)
# The options that a line may have, and what they are; those of SamplingParams by their own names.
_SAMPLING: Mapping[str, tuple[type, ...]] = {
    "temperature": _NUMBER,
    "top_k": (int,),
    "top_p": _NUMBER,
    "min_p": _NUMBER,
    "repeat_penalty": _NUMBER,
    "seed": (int,),
    "grammar": _TEXT,
}
_OTHERS: Mapping[str, tuple[type, ...]] = {
    "id": (str, int, float),
    "prompt": _TEXT,
    "messages": (list,),
    "system": _TEXT,
    "max_tokens": (int,),
    "stop": (str, list),
    "json_schema": (dict,),
}
_KNOWN = {**_OTHERS, **_SAMPLING}
_WANTED: Mapping[tuple[type, ...], str] = {
    _NUMBER: "a number",
    _TEXT: "a text",
    (int,): "a whole number",
    (list,): "a list",
    (dict,): "an object",
    (str, list): "a text or a list of texts",
    (str, int, float): "a text or a number",
}


@dataclass(frozen=True)
class Asked:
    """A line that can be asked. ``system`` and ``max_tokens`` None were not given; ``sampling``
    has what was."""

    number: int
    id: Id
    turns: tuple[Message, ...]
    system: str | None
    sampling: Mapping[str, Any]
    max_tokens: int | None
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Bad:
    """A line that cannot be asked, and why; ``raw`` is the line."""

    number: int
    id: Id
    error: str
    raw: bytes


def read_lines(lines: Iterable[bytes], *, raw: bool = False) -> Iterator[Asked | Bad]:
    """The lines of a batch; ``raw`` allows prompts alone. A line without an id has its number, or
    "line N" where that is another's id; an id that was there before is an error of the second
    line."""
    numbered = [
        (number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
        for number, line in enumerate(lines, 1)
        if line.strip(_BLANK)
    ]
    given = {_given_id(data) for _, data in numbered}
    seen: dict[Id, int] = {}
    for number, data in numbered:
        found = _read(data, number, f"line {number}" if number in given else number, raw)
        before = seen.setdefault(found.id, number)
        if before != number and isinstance(found, Asked):
            error = f"the id {json.dumps(found.id)} is that of line {before}, too"
            found = Bad(number, found.id, error, data)
        yield found


def _given_id(data: bytes) -> Id | None:
    """The id that a line has of its own."""
    try:
        given = _fields(data).get("id")
    except FwlocalError:
        return None
    return given if given is not None and _is(given, _OTHERS["id"]) else None


def _read(data: bytes, number: int, default: Id, raw: bool) -> Asked | Bad:
    given = _given_id(data)
    line_id = default if given is None else given
    try:
        fields = _fields(data)
        _check_types(fields)
        return _asked(fields, number, line_id, raw)
    except FwlocalError as error:
        return Bad(number, line_id, str(error), data)


def _fields(data: bytes) -> dict[str, Any]:
    try:
        fields = parse_json(data.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"the line is not UTF-8 (byte {error.start})") from None
    except ValueError as error:
        raise UsageError(f"the line is no valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UsageError(f"the line is {kind(fields)}, not an object with prompt or messages")
    return fields


def _check_types(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if name not in _KNOWN:
            known = ", ".join(_KNOWN)
            raise UsageError(f"unknown key {name!r}; a line takes {known}")
        if not _is(value, _KNOWN[name]):
            raise UsageError(f"{name!r} is {_shown(value)}, not {_WANTED[_KNOWN[name]]}")


def _is(value: object, types: tuple[type, ...]) -> bool:
    """JSON has NaN and true in no number's place."""
    is_nan = isinstance(value, float) and value != value
    return isinstance(value, types) and not isinstance(value, bool) and not is_nan


def _shown(value: object) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else kind(value)


def _asked(fields: Mapping[str, Any], number: int, line_id: Id, raw: bool) -> Asked:
    turns = _turns(fields, raw)
    system = fields.get("system")
    if system is not None and (raw or turns[0].role == "system"):
        other = "a raw prompt has" if raw else "the messages begin with"
        raise UsageError(f"{other} a system text of its own; leave 'system' out")
    sampling = {name: fields[name] for name in _SAMPLING if name in fields}
    if "json_schema" in fields:
        if "grammar" in sampling:
            raise UsageError("'json_schema' and 'grammar' exclude each other")
        sampling["grammar"] = llama.json_schema_to_grammar(json.dumps(fields["json_schema"]))
    SamplingParams().updated(sampling)
    max_tokens = fields.get("max_tokens")
    if max_tokens is not None and max_tokens < 1:
        raise UsageError(f"'max_tokens' is {max_tokens}; it must be at least 1")
    if system is not None:
        checked(system, "'system'")
    return Asked(number, line_id, turns, system, sampling, max_tokens, _stop(fields))


def _turns(fields: Mapping[str, Any], raw: bool) -> tuple[Message, ...]:
    if ("prompt" in fields) == ("messages" in fields):
        raise UsageError("the line takes either 'prompt' or 'messages'")
    if "prompt" in fields:
        prompt = checked(fields["prompt"], "'prompt'")
        if not prompt.strip():
            raise UsageError("'prompt' is empty")
        return (Message("user", prompt),)
    if raw:
        raise UsageError("a raw prompt is taken as it stands; give 'prompt', not 'messages'")
    turns = parse_messages(fields["messages"], "'messages'")
    check_turns(turns, "'messages'")
    return turns


def _stop(fields: Mapping[str, Any]) -> tuple[str, ...]:
    given = fields.get("stop", ())
    stop = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(text, str) and text for text in stop):
        raise UsageError("'stop' takes texts, and none that is empty")
    return tuple(checked(text, "'stop'") for text in stop)
