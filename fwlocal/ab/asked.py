"""What was typed behind ``/ab``: one or two names, then perhaps a message.

Whether the names mean anything, this module does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import UsageError
from fwlocal.levels import level_in

USAGE = (
    "/ab takes two levels of the model, as in /ab Q4_K_M Q8_0, two models, or one for the model "
    "that answers and another; a message after two names is asked anew"
)

# A path with spaces stands between quotes; a backslash is a part of a path.
_WORD = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|(\S+))""")
_SPELLINGS = {"FP16": "F16", "FP32": "F32"}


@dataclass(frozen=True)
class Asked:
    """``names`` are one or two, ``message`` "" asks the last question again."""

    names: tuple[str, ...]
    message: str = ""


def parse(typed: str) -> Asked:
    """Take apart what was typed. Raises UsageError where nothing was."""
    names: list[str] = []
    rest = typed.strip()
    while rest and len(names) < 2 and (match := _WORD.match(rest)):
        names.append(match[1] or match[2] or match[3])
        rest = rest[match.end() :]
    if not names:
        raise UsageError(USAGE)
    return Asked(tuple(names), rest.strip())


def is_level(word: str) -> bool:
    """Whether a word alone is the name of a quantization level, in whatever case."""
    upper = word.upper()
    return level_in(word) == _SPELLINGS.get(upper, upper)


def sibling(path: Path, level: str) -> Path | None:
    """The file beside ``path`` whose name differs in its level alone; None where it tells none."""
    own = level_in(path.name)
    if own is None:
        return None
    start = path.name.upper().rindex(own)
    spelled = path.name[start : start + len(own)]
    wanted = level.lower() if spelled.islower() else level.upper()
    return path.with_name(path.name[:start] + wanted + path.name[start + len(own) :])
