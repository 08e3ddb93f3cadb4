"""The chat's loop: read a message, stream the answer, again.

It reads and writes through a Screen, and knows no terminal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fwlocal.conversation import Conversation
from fwlocal.engine import EngineLike
from fwlocal.errors import FwlocalError, Interrupted, PromptTooLong, WorkerLost
from fwlocal.loader import LoadedModel
from fwlocal.repl.answering import respond
from fwlocal.repl.command import Screen
from fwlocal.repl.commands import BY_NAME, find
from fwlocal.repl.completion import as_message, looks_like_command
from fwlocal.repl.files import with_attachments
from fwlocal.repl.models import described
from fwlocal.repl.settings import chosen_sampling
from fwlocal.repl.state import State
from fwlocal.sessions.recording import Recorder, speaker_of

LEAVE_HINT = "(Ctrl-D or /exit leaves)"

Open = Callable[[str, "str | None"], LoadedModel]


class ModelGone(FwlocalError):
    """No model is loaded any more; the chat is saved and cannot go on."""


@dataclass
class Chat:
    """One chat. ``open`` loads a model by name, in a prompt format or its own; ``recorder`` keeps
    what is said, without one it is not saved."""

    loaded: LoadedModel
    conversation: Conversation
    screen: Screen
    open: Open
    state: State = field(default_factory=State)
    recorder: Recorder = field(default_factory=lambda: Recorder(saves=False))

    def __post_init__(self) -> None:
        self.go_on_with(self.conversation)
        self.replace(self.loaded)

    @property
    def engine(self) -> EngineLike:
        """The one that answers."""
        return self.loaded.engine

    @property
    def described(self) -> str:
        """The model that answers, and its prompt format."""
        return described(self)

    def go_on_with(self, conversation: Conversation) -> None:
        """Chat on in another conversation, which the recorder has."""
        self.state.forget_answers()
        self.engine.reset()
        self.conversation = conversation
        conversation.on_change = self.recorder.note

    def load(self, model: str, prompt_format: str | None = None) -> LoadedModel:
        """Load a model beside the one that answers. Raises FwlocalError."""
        return self.open(model, prompt_format)

    def replace(self, loaded: LoadedModel) -> None:
        """Have that one answer from now on; the one before is closed."""
        before, self.loaded = self.loaded, loaded
        if before.engine is not loaded.engine:
            before.engine.close()
            if not loaded.header.has_tokens_of(before.header):
                self.conversation.forget_tokens()
        self.recorder.speaker = speaker_of(loaded)
        self.engine.sampling = chosen_sampling(self)
        self.recorder.sampling = lambda: self.engine.sampling

    @contextlib.contextmanager
    def release(self) -> Iterator[None]:
        """While inside, the model that answers is not in memory; at the end it is loaded again,
        unless another has replaced it. Raises ModelGone where it cannot be."""
        before = self.loaded
        before.engine.close()
        try:
            yield
        except BaseException as error:
            if not _is_terminated(error):
                self._load_again(before)
            raise
        self._load_again(before)

    def _load_again(self, before: LoadedModel) -> None:
        """Bring a closed model back, unless another has replaced it."""
        if self.loaded is not before:
            return
        try:
            self.replace(self.open(speaker_of(before).model, before.prompt_format))
        except FwlocalError as error:
            raise ModelGone(f"{before.file.name} cannot be loaded again: {error}") from error

    def run(self) -> None:
        """Chat until the user leaves. Raises Interrupted when the process is terminated, and
        ModelGone."""
        hinted = False
        while True:
            try:
                draft, self.state.draft = self.state.draft, ""
                text = self.screen.ask(draft).strip()
            except KeyboardInterrupt:
                if hinted:
                    return
                self.screen.note(LEAVE_HINT)
                hinted = True
                continue
            except EOFError:
                return
            hinted = False
            if text and not self.handle(text):
                return

    def handle(self, text: str) -> bool:
        """Run a command or answer a message; False to leave. A user's error is said and passes."""
        try:
            if looks_like_command(text, BY_NAME):
                return self.obey(text)
            return self.answer(text)
        except ModelGone:
            raise
        except KeyboardInterrupt:
            self.conversation.settle()
            self.screen.note("(stopped)")
        except Interrupted as stopped:
            if _is_terminated(stopped):
                raise
            self.screen.note("(stopped)")
        except WorkerLost as error:
            self.screen.note(f"{error.lost} /retry")
        except FwlocalError as error:
            self.screen.note(str(error))
        return True

    def obey(self, text: str) -> bool:
        """Run a command; False to leave."""
        command, argument = find(text)
        said = command.run(self, argument)
        if said:
            self.screen.note(said)
        if command.asks:
            respond(self)
            self.state.draft = ""
        return said is not None

    def answer(self, typed: str) -> bool:
        """Answer a message, with the files that were attached to it; one that does not fit can be
        changed."""
        state = self.state
        state.n_retries = 0
        attached, state.attached = state.attached, []
        self.conversation.ask(with_attachments(as_message(typed), attached))
        try:
            respond(self)
        except PromptTooLong:
            state.draft, state.attached = typed, attached
            raise
        return True


def _is_terminated(error: BaseException) -> bool:
    """Whether it is a signal to leave, and not Ctrl-C: nothing is to be answered any more."""
    is_signal = isinstance(error, Interrupted) and error.exit_code != Interrupted.exit_code
    return is_signal or isinstance(error, SystemExit)
