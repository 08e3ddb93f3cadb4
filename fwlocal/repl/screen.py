"""The chat on a real terminal: the editor reads, stdout takes the answers and the notes."""

from __future__ import annotations

import sys
import textwrap
from contextlib import AbstractContextManager

from fwlocal.markdown import MarkdownWriter, PlainWriter
from fwlocal.repl.command import Writer
from fwlocal.repl.editor import Editor, QuietKeys
from fwlocal.repl.state import State
from fwlocal.terminal import has_colors, inert, terminal_size

_FAINT, _NORMAL = "\x1b[2m", "\x1b[22m"
_NARROWEST_WRAPPED = 20  # below, the terminal's own line breaks serve better


class TerminalScreen:
    """stdin and stdout, as ``fwlocal.repl.command.Screen``. ``state`` says which
    keys the editor has; ``is_plain`` never sends a colour."""

    def __init__(self, editor: Editor, state: State, *, is_plain: bool = False) -> None:
        self._editor, self._state = editor, state
        self.color = not is_plain and has_colors()
        self._has_written = False  # since the last message, which an empty line sets apart

    def ask(self, default: str = "") -> str:
        """A message. Raises EOFError and KeyboardInterrupt."""
        if self._has_written:
            self.write("\n")
        self._has_written = False
        self._editor.vi_mode = self._state.keys == "vi"
        return self._editor.ask(default)

    def ask_line(self, prompt: str) -> str:
        """A short answer. Raises EOFError and KeyboardInterrupt."""
        return self._editor.ask_line(prompt)

    def edit(self, text: str) -> str:
        """The text as the user's editor leaves it."""
        return self._editor.edit(text)

    def write(self, text: str) -> None:
        """Show text that is inert already."""
        sys.stdout.write(text)
        sys.stdout.flush()
        self._has_written = True

    def note(self, line: str) -> None:
        """A line of the program's own, or several, faint where there are colours."""
        for row in wrapped(inert(line), self.width()):
            self.write(f"{_FAINT}{row}{_NORMAL}\n" if self.color and row else f"{row}\n")

    def writer(self, *, raw: bool) -> Writer:
        """Who shows the next answer: as it comes, or as Markdown."""
        if raw:
            return PlainWriter(self.write)
        return MarkdownWriter(self.write, width=self.width, height=self.height, color=self.color)

    def answering(self) -> AbstractContextManager[object]:
        """While inside, keys that are typed do not show, and wait for the next message."""
        return QuietKeys()

    def width(self) -> int:
        """Cells in a row, now."""
        return max(1, terminal_size().columns)

    def height(self) -> int:
        """Rows, now."""
        return max(1, terminal_size().lines)


def wrapped(text: str, width: int) -> list[str]:
    """The lines of ``text``, broken between words; a broken line goes on below its own indent."""
    if width < _NARROWEST_WRAPPED:
        return text.split("\n")
    rows: list[str] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        rows += textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        ) or [""]
    return rows
