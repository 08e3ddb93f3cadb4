"""The line editor: prompt-toolkit, as a chat wants it.

It knows keys, a terminal and a history; what a message means, it does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggest, Suggestion
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.cursor_shapes import ModalCursorShapeConfig
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.history import History
from prompt_toolkit.input import create_input
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import ColorDepth, create_output
from prompt_toolkit.styles import Style

from fwlocal.repl.completion import CommandLike, offers
from fwlocal.repl.history import HistoryFile, is_kept
from fwlocal.repl.keys import key_bindings
from fwlocal.repl.typed import clean
from fwlocal.terminal import inert

PROMPT, CONTINUATION = "> ", ". "
NARROWEST = 8  # columns; with fewer, none are spent on the prompt
TAB_WIDTH = 4
_SUGGESTED_FROM, _LONGEST_SUGGESTION = 2, 200  # characters
_ESCAPE_S = 0.1  # vi's Escape is a key; what begins with it comes in one piece
_STYLE = Style.from_dict(
    {
        "auto-suggestion": "fg:ansibrightblack",
        "placeholder": "fg:ansibrightblack",
        "bottom-toolbar": "noreverse fg:ansibrightblack",
    }
)


class LineEditor:
    """One for the whole chat. ``toolbar`` is the line below, ``hint`` what an empty message shows;
    both are asked whenever they are drawn, "" is none."""

    def __init__(
        self,
        commands: Sequence[CommandLike],
        history: HistoryFile,
        toolbar: Callable[[], str] | None = None,
        hint: Callable[[], str] | None = None,
    ) -> None:
        self._input, self._output = create_input(sys.stdin), create_output(sys.stdout)
        has_colors = self._output.get_default_color_depth() != ColorDepth.DEPTH_1_BIT
        faint = hint if has_colors else None  # what is not faint looks as if it were typed
        self._session: PromptSession[str] = PromptSession(
            message=self._prompt,
            prompt_continuation=self._continuation,
            completer=_Commands(commands),
            complete_while_typing=False,
            history=_Kept(history),
            auto_suggest=_FromHistory() if has_colors else None,
            key_bindings=key_bindings(),
            input_processors=[TabsProcessor(tabstop=TAB_WIDTH, char1=" ", char2=" ")],
            bottom_toolbar=(lambda: inert(toolbar()) or None) if toolbar else None,
            placeholder=(lambda: [("class:placeholder", inert(faint()))]) if faint else None,
            style=_STYLE,
            enable_suspend=True,
            tempfile_suffix=".md",
            input=self._input,
            output=self._output,
        )
        self._session.app.renderer.cpr_not_supported_callback = None  # else a warning is printed

    def ask(self, default: str = "", *, vi_mode: bool = False) -> str:
        """A message. Raises EOFError and KeyboardInterrupt."""
        session, app = self._session, self._session.app
        session.editing_mode = EditingMode.VI if vi_mode else EditingMode.EMACS
        session.cursor = ModalCursorShapeConfig() if vi_mode else None
        app.timeoutlen = _ESCAPE_S if vi_mode else 1.0
        app.ttimeoutlen = _ESCAPE_S if vi_mode else 0.5
        return clean(session.prompt(default=clean(default)))

    def cooked(self) -> AbstractContextManager[None]:
        """While inside, the terminal is as programs expect it."""
        return self._input.cooked_mode()

    def _is_narrow(self) -> bool:
        return self._output.get_size().columns < NARROWEST

    def _prompt(self) -> str:
        return "" if self._is_narrow() else PROMPT

    def _continuation(self, width: int, line_number: int, wrap_count: int) -> str:
        """Before each line but the first; nothing where a long one goes on."""
        return "" if wrap_count or self._is_narrow() else CONTINUATION


class _Commands(Completer):
    def __init__(self, commands: Sequence[CommandLike]) -> None:
        self._commands = commands

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        for offer in offers(document.text_before_cursor, self._commands):
            yield Completion(
                offer.text,
                start_position=-offer.n_replaced,
                display=inert(offer.shown),
                display_meta=inert(offer.meta),
            )


class _Kept(History):
    """The history of this chat and, through the file, of others."""

    def __init__(self, file: HistoryFile) -> None:
        super().__init__()
        self._file = file
        self._former = file.read()

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._former)

    def append_string(self, string: str) -> None:
        if is_kept(string):
            super().append_string(clean(string))

    def store_string(self, string: str) -> None:
        self._file.add(string)


class _FromHistory(AutoSuggest):
    """The last message of one line that begins as this one does."""

    def get_suggestion(self, buffer: Buffer, document: Document) -> Suggestion | None:
        text = document.text
        if len(text) < _SUGGESTED_FROM or "\n" in text:
            return None
        for entry in reversed(buffer.history.get_strings()):
            if entry.startswith(text) and len(entry) <= _LONGEST_SUGGESTION and "\n" not in entry:
                return Suggestion(entry[len(text) :])
        return None
