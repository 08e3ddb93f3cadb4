"""A session for people and for other programs: Markdown and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fwlocal.errors import StoreError, UsageError
from fwlocal.files import write_atomically
from fwlocal.sessions.events import VERSION, said_data
from fwlocal.sessions.fold import Turn
from fwlocal.sessions.reading import Session
from fwlocal.terminal import inert

_HEADINGS = {"user": "User", "assistant": "Assistant"}


def as_json(data: object) -> str:
    """``data`` as JSON that every encoding has: halves of surrogate pairs are escaped."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def as_data(name: str, session: Session) -> dict[str, Any]:
    """The session as plain data: what it is, and its messages in the usual role/content form, the
    answers with how they came about."""
    header, speaker = session.header, session.speaker
    system = [{"role": "system", "content": session.system}] if session.system else []
    return {
        "session": name,
        "version": VERSION,
        "created": header.created if header else None,
        "model": speaker.model or None,
        "level": speaker.level,
        "prompt_format": speaker.prompt_format,
        "messages": [*system, *map(_message, session.turns)],
        "unanswered": session.unanswered,
    }


def _message(turn: Turn) -> dict[str, Any]:
    data: dict[str, Any] = {"role": turn.role, "content": turn.text, "time": turn.time or None}
    return {**data, **(said_data(turn.said) if turn.said else {})}


def as_markdown(name: str, session: Session) -> str:
    """The session as Markdown, which reads well as plain text too; control characters are made
    visible."""
    known = [session.header.created if session.header else "", session.speaker.model]
    parts = [f"# {name}", ", ".join(filter(None, known))]
    if session.system:
        parts += ["## System", session.system]
    for turn in session.turns:
        parts += [f"## {_HEADINGS[turn.role]}", turn.text.strip("\n")]
    if session.unanswered is not None:
        parts += ["## User (without an answer)", session.unanswered.strip("\n")]
    return shown("\n\n".join(filter(None, parts)) + "\n")


def shown(text: str) -> str:
    """``text`` with nothing in it that a terminal would obey, or that no encoding has."""
    return inert(text).encode("utf-8", "replace").decode()


def export(name: str, session: Session, path: Path) -> None:
    """Write the session to a new file, as its ending says: .md or .json.

    Raises UsageError for another ending or a file that is there, and StoreError.
    """
    kind = path.suffix.lower()
    if kind == ".json":
        text = as_json(as_data(name, session))
    elif kind == ".md":
        text = as_markdown(name, session)
    else:
        raise UsageError(f"{path}: end the file's name in .md or .json; that says what is written")
    if path.exists():
        raise UsageError(f"{path} is there already; choose another name, or remove it first")
    try:
        write_atomically(path, text)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
