"""The sessions at a glance: how long each is, with which model, when used, and how it begins."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from fwlocal.errors import StoreError
from fwlocal.sessions.folder import Folder, last_used
from fwlocal.sessions.growing import read_file
from fwlocal.tables import Column, Table

MAX_WORDS = 60  # characters

COLUMNS = (
    Column("NAME"),
    Column("TURNS", right=True, left_out=2),
    Column("MODEL", left_out=3),
    Column("USED", left_out=1),
    Column("BEGINS", folds=True, left_out=4),
)


@dataclass(frozen=True)
class Outline:
    """A session; ``used`` is ISO 8601, UTC, "" where it is not known; ``begins`` are the first
    words of its user."""

    name: str
    n_turns: int
    model: str
    used: str
    begins: str
    path: str

    def as_data(self) -> dict[str, Any]:
        """For ``--json``; None for what is not known."""
        return {
            "session": self.name,
            "turns": self.n_turns,
            "model": self.model or None,
            "last_used": self.used or None,
            "begins": self.begins or None,
            "path": self.path,
        }


def outlines(folder: Folder, warn: Callable[[str], None] = lambda line: None) -> list[Outline]:
    """All sessions, the one used last first; ``warn`` is told of a file that cannot be read, and of
    damaged lines. Raises StoreError for the folder."""
    found = []
    for name in folder.names():
        path = folder.path(name)
        try:
            session = read_file(path)
        except StoreError as error:
            warn(str(error))
            continue
        if session.damages:
            warn(f"{path}: {session.complaint()}; the rest is whole")
        first = session.turns[0].text if session.turns else session.unanswered or ""
        words = " ".join(first[: 4 * MAX_WORDS].split())
        found.append(
            Outline(
                name=name,
                n_turns=session.n_turns,
                model=session.speaker.model,
                used=_utc(last_used(path)),
                begins=words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…",
                path=str(path),
            )
        )
    return found


def table(found: Sequence[Outline]) -> Table:
    """The same as a table; of the model's path, if it is one, the file's name."""
    return Table(COLUMNS, [_cells(outline) for outline in found])


def table_text(found: Sequence[Outline], width: int) -> str:
    """The table as text for a terminal of ``width`` columns."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(table(found))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _cells(outline: Outline) -> tuple[str, ...]:
    model = outline.model.replace("\\", "/").rpartition("/")[2]
    used = outline.used and datetime.fromisoformat(outline.used.replace("Z", "+00:00"))
    day = used.astimezone().strftime("%Y-%m-%d %H:%M") if used else "-"
    return outline.name, str(outline.n_turns), model or "-", day, outline.begins or "-"


def _utc(seconds: float) -> str:
    """A time since 1970 in ISO 8601; "" for none that a calendar has."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""
