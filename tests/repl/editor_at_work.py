"""A chat without a model, in a terminal of its own for tests/test_editor.py: each message is
answered by its repr, or its size if it is long, except for those that name a piece of work.

Started as ``python editor_at_work.py HISTORY_FILE|- emacs|vi``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import FwlocalError
from fwlocal.repl.completion import Completes, Proposal, one_of, paths
from fwlocal.repl.editor import Editor, QuietKeys


def nothing(_: str) -> Iterable[Proposal]:
    return ()


@dataclass(frozen=True)
class Command:
    name: str
    help: str
    argument: str = ""
    completes: Completes = nothing


COMMANDS = (
    Command("/help", "show this"),
    Command("/file", "attach a text file", "PATH", paths),
    Command("/format", "the prompt format", "NAME", one_of("chatml", "llama2")),
    Command("/exit", "leave"),
)


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def stream(seconds: float) -> None:
    """An answer, while which keys are typed; Ctrl-C stops it."""
    with QuietKeys():
        try:
            show("streaming")
            time.sleep(seconds)
        except KeyboardInterrupt:
            show("stopped")
    show("streamed")


def described(text: str) -> str:
    lines = text.split("\n")
    if len(lines) < 10:
        return repr(text)
    return f"{len(lines)} lines of {sum(map(len, lines))} characters"


def main(history: str, keys: str) -> None:
    editor = Editor(
        COMMANDS,
        history=None if history == "-" else Path(history),
        toolbar=lambda: "the toolbar",
        vi_mode=keys == "vi",
    )
    default = ""
    while True:
        try:
            text, default = editor.ask(default), ""
        except KeyboardInterrupt:
            show("INTERRUPTED")
            continue
        except EOFError:
            show("LEFT")
            return
        try:
            if text.startswith("stream "):
                stream(float(text.split()[1]))
            elif text.startswith("edit "):
                default = editor.edit(text[5:])
            elif text == "line":
                show(f"LINE {editor.ask_line('sure? ')!r}")
            else:
                show(f"GOT {described(text)}")
        except FwlocalError as error:
            show(f"ERROR {error}")


if __name__ == "__main__":
    with QuietKeys():
        main(*sys.argv[1:])
