"""What a slash command is, and what it may use of the chat that it is typed into."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from fwlocal.conversation import Conversation
from fwlocal.engine import EngineLike
from fwlocal.loader import LoadedModel
from fwlocal.repl.state import State
from fwlocal.sessions.recording import Recorder

Offer = tuple[str, str]  # what TAB would complete, and a word on it


class Writer(Protocol):
    """Shows one answer, fed as it comes."""

    def feed(self, text: str) -> None: ...
    def end(self) -> None: ...


class Screen(Protocol):
    """The terminal, as far as a chat needs it. ``write`` takes text that is inert already, ``note``
    is a line of the program's own; ``ask`` reads a message, ``ask_line`` a short answer, both raise
    EOFError and KeyboardInterrupt; ``edit`` opens the user's editor. ``width`` and ``height`` are
    in cells, as they are now. ``writer`` shows one answer; while ``answering``, keys stay
    unseen."""

    color: bool

    def ask(self, default: str = "") -> str: ...
    def ask_line(self, prompt: str) -> str: ...
    def edit(self, text: str) -> str: ...
    def write(self, text: str) -> None: ...
    def note(self, line: str) -> None: ...
    def writer(self, *, raw: bool) -> Writer: ...
    def answering(self) -> contextlib.AbstractContextManager[object]: ...
    def width(self) -> int: ...
    def height(self) -> int: ...


class Sitting(Protocol):
    """A chat, as commands see it."""

    loaded: LoadedModel
    conversation: Conversation
    recorder: Recorder
    state: State
    screen: Screen

    @property
    def engine(self) -> EngineLike: ...

    def go_on_with(self, conversation: Conversation) -> None:
        """Chat on in another conversation, which the recorder has."""

    def load(self, model: str, prompt_format: str | None = None) -> LoadedModel:
        """Load a model beside the one that answers, with a progress bar that Ctrl-C stops; its
        sampling is as the chat has it. Raises FwlocalError."""

    def replace(self, loaded: LoadedModel) -> None:
        """Have that one answer from now on; the one before is closed."""

    def release(self) -> contextlib.AbstractContextManager[None]:
        """While inside, the model that answers is not in memory; at the end it is loaded again,
        unless another has replaced it."""


def nothing_offered(_: str) -> Iterable[Offer]:
    """For what TAB has no proposals."""
    return ()


@dataclass(frozen=True)
class Command:
    """``run`` gets what was typed after the name, changes the chat and returns what to say, or None
    to leave it; after one that ``asks``, the conversation waits for an answer. ``argument`` is how
    help names what it takes, "" for nothing; ``completes`` gets what is typed of it so far."""

    name: str
    help: str
    run: Callable[[Sitting, str], str | None]
    argument: str = ""
    asks: bool = False
    completes: Callable[[str], Iterable[Offer]] = nothing_offered

    @property
    def usage(self) -> str:
        """How it is typed."""
        return f"{self.name} {self.argument}".rstrip()
