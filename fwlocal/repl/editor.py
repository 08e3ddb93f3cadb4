"""Where messages are written: the line editor, the plain terminal, and the user's own editor.

What a message means, and who answers it, this module does not know.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.errors import FwlocalError
from fwlocal.repl.completion import CommandLike
from fwlocal.repl.history import HistoryFile, is_kept
from fwlocal.repl.plain import read_line, read_message
from fwlocal.repl.quiet import QuietKeys, is_dumb
from fwlocal.repl.typed import clean, unquoted

if TYPE_CHECKING:
    from fwlocal.repl.line_editor import LineEditor

__all__ = ["Editor", "QuietKeys"]


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Editor:
    """Reads messages from the terminal, one after the other.

    ``commands`` are what TAB completes; ``history`` is the file that keeps what was typed for later
    chats, None for none; ``warn`` is told in a line when it cannot. ``toolbar`` is a line below
    the message, ``hint`` what an empty message shows, each asked anew whenever it is drawn.
    ``vi_mode`` may be changed at any time, and holds from the next message on.
    """

    def __init__(
        self,
        commands: Sequence[CommandLike] = (),
        *,
        history: Path | None = None,
        warn: Callable[[str], None] = _print,
        toolbar: Callable[[], str] | None = None,
        hint: Callable[[], str] | None = None,
        vi_mode: bool = False,
    ) -> None:
        self.vi_mode = vi_mode
        self._problems: list[str] = []  # told when no message is being drawn
        self._commands = commands
        self._history, self._warn = HistoryFile(history, self._problems.append), warn
        self._toolbar, self._hint = toolbar, hint
        self._line_editor: LineEditor | None = None

    def ask(self, default: str = "") -> str:
        """The next message, with ``default`` in it to begin with; the text alone of one between
        triple quotes, where a leading slash is doubled, since it is no command's.

        Raises EOFError for Ctrl-D, or when nothing more can come, and KeyboardInterrupt for Ctrl-C,
        both on an empty message only, where the terminal is no dumb one.
        """
        if _is_plain():
            text = read_message("> ", ". ", clean(default))
            if is_kept(text):
                self._history.add(text)
        else:
            editor = self._editor()
            self._tell()
            text = editor.ask(default, vi_mode=self.vi_mode)
        self._tell()
        return unquoted(text)

    def ask_line(self, prompt: str) -> str:
        """A short answer to a question of the program's own; it is in no history. Raises EOFError
        and KeyboardInterrupt."""
        with self._as_programs_expect():
            return read_line(prompt)

    def edit(self, text: str) -> str:
        """``text`` as the user leaves it in $VISUAL or $EDITOR; the same if nothing was saved.

        Raises FwlocalError when there is no such editor, it fails, or leaves no text.
        """
        import click

        try:
            with self._as_programs_expect(), _left_to_the_program():
                edited = click.edit(clean(text), extension=".md")
        except (click.ClickException, OSError, ValueError) as error:
            problem = error.message if isinstance(error, click.ClickException) else error
            why = " ".join(str(problem).split())
            raise FwlocalError(f"{why}; set VISUAL or EDITOR to an editor that works") from error
        if edited is None:
            return text
        edited = clean(edited)
        return edited if text.endswith("\n") else edited.rstrip("\n")

    def _tell(self) -> None:
        while self._problems:
            self._warn(self._problems.pop())

    def _editor(self) -> LineEditor:
        if self._line_editor is None:
            from fwlocal.repl.line_editor import LineEditor

            self._line_editor = LineEditor(self._commands, self._history, self._toolbar, self._hint)
        return self._line_editor

    @contextlib.contextmanager
    def _as_programs_expect(self) -> Iterator[None]:
        """While inside, the terminal edits lines and shows them, whatever keys were quiet."""
        if _is_plain():
            yield
            return
        with self._editor().cooked():
            yield


def _is_plain() -> bool:
    """Whether no line can be drawn anew here."""
    streams = (sys.stdin, sys.stdout)
    drawn = all(s is not None and not s.closed and s.isatty() for s in streams)
    return is_dumb() or not drawn


@contextlib.contextmanager
def _left_to_the_program() -> Iterator[None]:
    """While inside, Ctrl-C is for the program that runs, not for this one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)  # SIG_IGN would be inherited
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
