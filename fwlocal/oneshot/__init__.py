"""``fwlocal run``: arguments, files and stdin become one answer on stdout, as text or as JSON.

stdout gets the answer alone; everything else goes to stderr.
"""

from fwlocal.oneshot.answering import Request, answer
from fwlocal.oneshot.asking import (
    check_turns,
    checked,
    joined,
    parse_messages,
    read_messages,
    read_piped,
    read_prompt,
)
from fwlocal.oneshot.record import describe
from fwlocal.oneshot.writing import Form, Output, ending_in_one_newline, stats_line

__all__ = [
    "Form",
    "Output",
    "Request",
    "answer",
    "check_turns",
    "checked",
    "describe",
    "ending_in_one_newline",
    "joined",
    "parse_messages",
    "read_messages",
    "read_piped",
    "read_prompt",
    "stats_line",
]
