"""Where a text was said, in all sessions; upper and lower case are one, and any white space."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from fwlocal.errors import StoreError
from fwlocal.sessions.fold import Turn
from fwlocal.sessions.folder import Folder
from fwlocal.sessions.growing import read_file

AROUND = 40  # characters on each side


@dataclass(frozen=True)
class Hit:
    """A turn that holds the text: the session, which question it belongs to (from 1), who said it,
    and the words around the first place."""

    session: str
    turn: int
    role: str
    excerpt: str

    def as_data(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def search(
    text: str, folder: Folder, warn: Callable[[str], None] = lambda line: None
) -> Iterator[Hit]:
    """Every turn that counts and holds ``text``, a question without an answer too, the session used
    last first; ``warn`` is told of a file that cannot be read. Raises StoreError."""
    words = text.split()
    wanted = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    for name in folder.names():
        try:
            session = read_file(folder.path(name))
        except StoreError as error:
            warn(str(error))
            continue
        turns = list(session.turns)
        if session.unanswered is not None:
            turns.append(Turn("user", session.unanswered))
        for index, turn in enumerate(turns):
            if words and words[0].lower() not in turn.text.lower():  # quicker than the pattern
                continue
            excerpt = _around(wanted, turn.text)
            if excerpt:
                yield Hit(name, index // 2 + 1, turn.role, excerpt)


def _around(wanted: re.Pattern[str], text: str) -> str:
    """The words around the first place, on one line; "" where it is not."""
    found = wanted.search(text)
    if found is None or found.end() == 0:
        return ""
    start, end = max(0, found.start() - AROUND), found.end() + AROUND
    words = " ".join(text[start:end].split())
    return ("…" if start else "") + words + ("…" if end < len(text) else "")
