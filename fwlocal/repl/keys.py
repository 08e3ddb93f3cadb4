"""The keys of the line editor that are not prompt-toolkit's own, for emacs and vi alike."""

from __future__ import annotations

from prompt_toolkit.application import get_app
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import (
    Condition,
    completion_is_selected,
    emacs_insert_mode,
    has_focus,
    vi_insert_mode,
)
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.vi_state import InputMode
from prompt_toolkit.keys import Keys

from fwlocal.repl.typed import clean, is_open

# Enter with Shift, Alt and Control, as terminals send it that tell them apart: xterm's
# modifyOtherKeys (27;N;13~) and the Kitty keyboard protocol (13;Nu).
_ENTERS = tuple(f"\x1b[{sequence}" for n in (2, 3, 5) for sequence in (f"27;{n};13~", f"13;{n}u"))
_ALL = 1_000_000_000


def key_bindings() -> KeyBindings:
    """The keys, to be merged with those that prompt-toolkit has."""
    ANSI_SEQUENCES.update(dict.fromkeys(_ENTERS, Keys.ControlJ))
    keys = KeyBindings()
    focused = has_focus(DEFAULT_BUFFER)
    writing = focused & (emacs_insert_mode | vi_insert_mode)
    keys.add("escape", "enter", filter=writing)(_newline)
    keys.add("c-j", filter=writing)(_newline)
    keys.add("enter", filter=writing & Condition(_is_open))(_newline)
    keys.add("enter", filter=focused & completion_is_selected)(_take_completion)
    keys.add("c-c", filter=focused & Condition(_has_text))(_clear)
    keys.add("c-x", "c-e", filter=focused)(_open_editor)
    keys.add(Keys.BracketedPaste)(_paste)
    return keys


def _is_open() -> bool:
    return is_open(get_app().current_buffer.text)


def _has_text() -> bool:
    return bool(get_app().current_buffer.text)


def _newline(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")


def _take_completion(event: KeyPressEvent) -> None:
    """Enter in the menu closes it; the next one sends."""
    event.current_buffer.complete_state = None


def _clear(event: KeyPressEvent) -> None:
    """As a shell does, but undo brings the text back."""
    buffer = event.current_buffer
    text = buffer.text
    buffer.exit_selection()
    buffer.history_forward(count=_ALL)
    buffer.text = text
    buffer.save_to_undo_stack()
    buffer.text = ""
    event.app.vi_state.input_mode = InputMode.INSERT


def _open_editor(event: KeyPressEvent) -> None:
    """Comes back to the prompt; prompt-toolkit's own would send at once."""
    event.current_buffer.open_in_editor()


def _paste(event: KeyPressEvent) -> None:
    """Text is put in as one piece, whatever lines it has, and never sends."""
    event.current_buffer.insert_text(clean(event.data))
