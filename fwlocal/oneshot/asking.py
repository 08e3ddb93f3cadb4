"""What is asked: the prompt, the files and stdin as one text, or a conversation from JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import BinaryIO, get_args

from fwlocal.attachments import MOST_BYTES, Attachment, read_bounded
from fwlocal.errors import FwlocalError, UsageError
from fwlocal.prompts import Message, Role

MOST_JSON_BYTES = 256 << 20  # a record with the likeliest tokens of many answers is long

_FIELDS = ("role", "content")
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def read_prompt(argument: str | None, stdin: BinaryIO | None, *, raw: bool = False) -> str:
    """PROMPT, with the text on ``stdin`` (None for a terminal) appended after a blank line.

    Raises UsageError when both are empty, FwlocalError for text that is no UTF-8 or holds NUL.
    """
    prompt = joined(argument or "", (), read_piped(stdin, raw=raw))
    if not prompt:
        raise UsageError("the prompt is empty; give it as an argument or on stdin")
    return prompt


def joined(prompt: str, files: Iterable[Attachment], piped: str) -> str:
    """The files under their names, the prompt, then what came on stdin; "" where all are blank. The
    next question about the same files begins with the same tokens, and reads them from the cache.
    """
    texts = (*(file.block for file in files), checked(prompt, "the prompt"), piped)
    return "\n\n".join(text for text in texts if text.strip())


def read_piped(stdin: BinaryIO | None, *, raw: bool = False) -> str:
    """The text on stdin. The line end that closes it is dropped, unless it is a ``raw`` prompt."""
    if stdin is None:
        return ""
    piped = _decoded(_all_of(stdin, MOST_BYTES))
    return piped if raw else piped.replace("\r\n", "\n").rstrip("\n")


def read_messages(path: str, stdin: BinaryIO | None) -> tuple[Message, ...]:
    """The conversation in a JSON file, "-" for stdin: a list of messages, or an object with one,
    as an exported session, or what ``--json`` printed, whose answer then is the last message.

    Raises FwlocalError and UsageError.
    """
    where = "stdin" if path == "-" else path
    data = read_json(path, stdin)
    if not isinstance(data, dict) or not isinstance(data.get("messages"), list):
        return parse_messages(data, where)
    messages = parse_messages([_bare(item) for item in data["messages"]], f"{where}: 'messages'")
    said = data.get("text")
    if not isinstance(said, str):
        return messages
    return (*messages, Message("assistant", checked(said.rstrip(), f"{where}: 'text'")))


def read_json(path: str, stdin: BinaryIO | None) -> object:
    """The JSON value in a file, "-" for stdin. Raises FwlocalError for what is none."""
    text, where = read_text(path, stdin)
    try:
        return parse_json(text)
    except ValueError as error:
        raise FwlocalError(f"{where}: is no valid JSON: {error}") from None


def parse_json(text: str) -> object:
    """A JSON value. Raises ValueError also for one nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_text(path: str, stdin: BinaryIO | None) -> tuple[str, str]:
    """The text in a file, "-" for stdin, and what to call it. Raises FwlocalError and
    UsageError."""
    where = "stdin" if path == "-" else path
    if path != "-":
        limit = f"JSON may have {MOST_JSON_BYTES >> 20} MiB, so name a smaller file"
        data = read_bounded(path, MOST_JSON_BYTES, limit)
    elif stdin is not None:
        data = _all_of(stdin, MOST_JSON_BYTES)
    else:
        raise UsageError("nothing is piped in on stdin; pipe the JSON in, or name a file")
    try:
        return data.decode("utf-8-sig"), where
    except UnicodeDecodeError as error:
        raise FwlocalError(f"{where}: is not UTF-8 (byte {error.start})") from None


def parse_messages(data: object, where: str) -> tuple[Message, ...]:
    """A conversation in the usual form: a list of ``{"role": ..., "content": text}``.

    Raises UsageError, which names ``where``, the message's index from 0, and the field.
    """
    if not isinstance(data, list):
        raise UsageError(f"{where}: is {kind(data)}, not a list of messages")
    if not data:
        raise UsageError(f"{where}: holds no message; give at least the user's")
    return tuple(_message(item, f"{where}: message {index}") for index, item in enumerate(data))


def check_turns(messages: Sequence[Message], where: str) -> None:
    """Raise UsageError unless a system text comes only first, and the last message is the user's
    and asks something."""
    for index, message in enumerate(messages):
        if message.role == "system" and index:
            raise UsageError(f"{where}: message {index}: role 'system' must come first")
    last = len(messages) - 1
    if messages[last].role != "user":
        raise UsageError(
            f"{where}: message {last}: role {messages[last].role!r}, but the last message is the "
            "one to answer, the user's; add it, or give a PROMPT too"
        )
    if not messages[last].content.strip():
        raise UsageError(f"{where}: message {last}: 'content' is empty; it is what is answered")


def kind(value: object) -> str:
    """What a JSON value is, for a message."""
    return _KINDS.get(type(value), type(value).__name__)


def _bare(item: object) -> object:
    """A message without what else a record says of it."""
    if not isinstance(item, dict):
        return item
    return {field: item[field] for field in _FIELDS if field in item}


def _all_of(stdin: BinaryIO, room: int) -> bytes:
    """What is piped in; FwlocalError as soon as it is more than ``room`` bytes."""
    data = stdin.read(room + 1)
    if len(data) > room:
        raise FwlocalError(f"stdin: has more than {room >> 20} MiB; pipe a part of it")
    return data


def _message(item: object, where: str) -> Message:
    if not isinstance(item, dict):
        raise UsageError(f"{where}: is {kind(item)}, not an object with role and content")
    for field in _FIELDS:
        if field not in item:
            raise UsageError(f"{where}: has no {field!r}; it takes role and content")
        if not isinstance(item[field], str):
            raise UsageError(f"{where}: {field!r} is {kind(item[field])}, not a text")
    unknown = [field for field in item if field not in _FIELDS]
    if unknown:
        raise UsageError(f"{where}: unknown field {unknown[0]!r}; it takes role and content")
    if item["role"] not in get_args(Role):
        known = ", ".join(get_args(Role))
        raise UsageError(f"{where}: 'role' is {item['role']!r}; it must be one of {known}")
    return Message(item["role"], checked(item["content"], f"{where}: 'content'"))


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FwlocalError(
            f"stdin is not UTF-8 (byte {error.start}); convert it first, as with: "
            "iconv -f latin1 -t utf-8"
        ) from None
    return checked(text, "stdin")


def checked(text: str, where: str) -> str:
    """``text``, if it is one. Raises FwlocalError for NUL and lone surrogates."""
    if "\0" in text:
        raise FwlocalError(f"{where} holds a NUL byte at {text.index(chr(0))}; is it a text?")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise FwlocalError(f"{where} is not valid UTF-8")
    return text
