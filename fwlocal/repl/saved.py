"""``/save``, ``/load``, ``/sessions``, ``/export``: this chat on the disk, and the others there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fwlocal.errors import UsageError
from fwlocal.repl.command import Command, Offer, Sitting
from fwlocal.repl.completion import session_names
from fwlocal.repl.showing import show_turns
from fwlocal.sessions.export import export
from fwlocal.sessions.outline import outlines, table_text
from fwlocal.sessions.recording import name_of

UNSAVED_NAME = "chat"


def _save(sitting: Sitting, name: str) -> str:
    return f"Saved as it goes, in {sitting.recorder.save(name)}."


def _load(sitting: Sitting, name: str) -> str:
    if not name:
        raise UsageError("/load takes the name of a session; /sessions lists them")
    recorder = sitting.recorder
    if recorder.path is not None and name == name_of(recorder.path):
        return f"{name} is this chat."
    session = recorder.open(name, must_exist=True)
    if session is None:
        raise UsageError(f"the session {name} holds nothing that was said")
    sitting.go_on_with(session.conversation())
    other = session.speaker.model
    by = f" Its last answer was by {other}." if other not in ("", recorder.speaker.model) else ""
    sitting.screen.note(f"Going on with {name}: {session.in_words()}.{by}")
    show_turns(sitting, sitting.conversation.turns[-2:])
    return ""


def _sessions(sitting: Sitting, _: str) -> str:
    warnings: list[str] = []
    found = outlines(sitting.recorder.folder, warnings.append)
    table = table_text(found, sitting.screen.width()) if found else "No chat is saved yet."
    return "\n".join([table, *warnings])


def _export(sitting: Sitting, file: str) -> str:
    if not file:
        raise UsageError("/export takes a file to write, FILE.md or FILE.json")
    saved = sitting.recorder.path
    path = Path(file).expanduser()
    export(name_of(saved) if saved else UNSAVED_NAME, sitting.recorder.session, path)
    return f"Written to {path}."


def _files(typed: str) -> Iterable[Offer]:
    """Folders that begin so, and the same file with the endings that can be written."""
    folder, start = os.path.split(typed)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as found:
            inside = sorted(entry.name for entry in found if entry.is_dir())
    except OSError:
        return []
    hidden = start.startswith(".")
    offers = [
        (os.path.join(folder, name, ""), "folder")
        for name in inside
        if name.startswith(start) and (hidden or not name.startswith("."))
    ]
    if start and not Path(start).suffix:
        offers += [(typed + ".md", "Markdown"), (typed + ".json", "JSON")]
    return offers


SAVED_COMMANDS = (
    Command("/save", "keep this chat, under NAME", _save, argument="[NAME]"),
    Command("/load", "go on with a saved chat", _load, argument="NAME", completes=session_names),
    Command("/sessions", "list the saved chats", _sessions),
    Command(
        "/export",
        "write the chat to a new file",
        _export,
        argument="FILE.md|FILE.json",
        completes=_files,
    ),
)
