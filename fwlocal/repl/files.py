"""``/file`` and ``/copy``: text from the disk into the chat, and out of it into the clipboard."""

from __future__ import annotations

import re

from fwlocal.attachments import Attachment, read_attachments
from fwlocal.errors import UsageError
from fwlocal.files import sized
from fwlocal.repl.command import Command, Sitting
from fwlocal.repl.completion import one_of, paths

CLEAR, CODE = "clear", "code"

_CODE = re.compile(r"^(?P<fence>`{3,}|~{3,})[^\n]*\n(?P<code>.*?)^(?P=fence)\s*$", re.M | re.S)


def with_attachments(text: str, attached: list[Attachment]) -> str:
    """A message with the files that go along, under their names."""
    return "\n\n".join([text, *(file.block for file in attached)])


def _file(sitting: Sitting, typed: str) -> str:
    attached = sitting.state.attached
    if typed == CLEAR:
        attached.clear()
        return "No file goes with the next message."
    if not typed:
        return _listed(sitting) if attached else "/file PATH adds a text file to the next message."
    if typed[0] in "\"'" and typed[-1] == typed[0]:  # as one types it in a shell
        typed = typed[1:-1]
    known = {file.name for file in attached}
    found = read_attachments([typed], sitting.screen.note)
    attached += [file for file in found if file.name not in known]
    return _listed(sitting)


def _listed(sitting: Sitting) -> str:
    """The files, each with its size and tokens, and whether all of them fit."""
    counts = [len(sitting.engine.text_tokens(file.block)) for file in sitting.state.attached]
    rows = [
        f"  {file.name}  {sized(file.size_bytes)}, {count} tokens"
        for file, count in zip(sitting.state.attached, counts, strict=True)
    ]
    total, limit = sum(counts), sitting.engine.limit
    fits = "" if total < limit else f", which is more than the context of {limit} holds"
    return "\n".join([*rows, f"  with the next message: {total} tokens{fits} (/file clear)"])


def _copy(sitting: Sitting, typed: str) -> str:
    from fwlocal.clipboard import copy

    said = [turn.content for turn in sitting.conversation.turns if turn.role == "assistant"]
    if not said:
        raise UsageError("there is no answer to copy yet")
    if typed not in ("", CODE):
        raise UsageError(f"/copy takes nothing, or {CODE} for the last block of code alone")
    text = said[-1]
    if typed == CODE:
        blocks = [found["code"] for found in _CODE.finditer(text)]
        if not blocks:
            raise UsageError("there is no block of code in the last answer")
        text = blocks[-1]
    return copy(text)


FILE_COMMANDS = (
    Command(
        "/file", "add a text file to the next message", _file, "[PATH|GLOB|clear]", completes=paths
    ),
    Command(
        "/copy", "copy the last answer, or its last code", _copy, "[code]", completes=one_of(CODE)
    ),
)
