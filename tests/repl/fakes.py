"""A chat without a terminal and without a model: what is typed, what is shown, what is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from fwlocal.answer import FinishReason, Generation, Result, Timings
from fwlocal.conversation import Conversation
from fwlocal.errors import FwlocalError, PromptTooLong
from fwlocal.gguf.header import VOCABULARY, GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.loader import LoadedModel
from fwlocal.markdown import PlainWriter
from fwlocal.offload import OffloadPlan, Share
from fwlocal.prompts import Message
from fwlocal.repl.command import Writer
from fwlocal.repl.loop import Chat
from fwlocal.repl.state import State
from fwlocal.sampling import SamplingParams
from fwlocal.sessions.folder import Folder
from fwlocal.sessions.recording import Recorder
from fwlocal.store import ModelFile

PLAN = OffloadPlan(
    shares=(Share("CPU", 3, 1 << 30, 1 << 20, 1 << 20, 4 << 30, 4 << 30),),
    n_gpu_layers=0,
    n_layers=3,
    n_ctx=100,
    kv_type="f16",
    flash_attn="auto",
    n_batch=512,
    n_ubatch=512,
    mmap=True,
    mlock=False,
    reason="all layers are on the CPU",
)


class FakeEngine:
    """Answers "answer N" to the Nth message; ``during`` runs in the middle of each answer, and
    ``failures`` are what happens to the first ones instead: an error in mid-answer, or None.
    A word is a token."""

    def __init__(
        self,
        during: Callable[[], None] = lambda: None,
        *,
        finish: FinishReason = "stop",
        first: str = "answer ",
        failures: Sequence[FwlocalError | None] = (),
        limit: int = 100,
    ) -> None:
        self.first, self.finish, self.during = first, finish, during
        self.failures = list(failures)
        self.interrupt, self.limit = Interrupt(), limit
        self.sampling, self.max_tokens = SamplingParams(), None
        self.system, self.stop, self.load_s = None, (), 0.0
        self.asked: list[list[Message]] = []
        self.options: list[dict[str, Any]] = []
        self.completion_tokens = 3
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def reset(self) -> None:
        """It has no KV cache."""

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content.split()) for message in messages)

    def text_tokens(self, text: str) -> list[int]:
        return [0] * len(text.split())

    def chat(self, messages: Sequence[Message], **options: Any) -> Generation:
        self.asked.append(list(messages))
        self.options.append(options)
        if (n_prompt := self.count(messages)) >= self.limit:
            raise PromptTooLong(
                f"the prompt has {n_prompt} tokens and the context holds {self.limit}"
            )
        return Generation(self.steps(len(self.asked), self.count(messages)))

    def steps(self, number: int, prompt_tokens: int) -> Generator[str, None, Result]:
        said = [self.first]
        yield said[0]
        self.during()
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        if not self.interrupt.is_set():
            said.append(str(number))
            yield said[1]
        reason = "interrupt" if self.interrupt.is_set() else self.finish
        timings = Timings(0, 0.25, 0.2, 0.1, 50.0, 20.0)
        text = "".join(said)
        return Result(text, (), reason, prompt_tokens, self.completion_tokens, 0, 1, timings)


class FakeScreen:
    """The user types ``lines``, an exception among them is raised instead; ``edited`` is what comes
    of the user's editor."""

    color = False

    def __init__(self, *lines: str | type[BaseException], edited: str = "") -> None:
        self.lines = iter([*lines, EOFError])
        self.said = ""
        self.notes: list[str] = []
        self.defaults: list[str] = []
        self.edited = edited
        self.given_to_edit = ""

    def ask(self, default: str = "") -> str:
        self.defaults.append(default)
        line = next(self.lines)
        if isinstance(line, str):
            return line
        raise line

    def ask_line(self, prompt: str) -> str:
        return self.ask()

    def edit(self, text: str) -> str:
        self.given_to_edit = text
        return self.edited

    def write(self, text: str) -> None:
        self.said += text

    def note(self, line: str) -> None:
        self.notes.append(line)

    def writer(self, *, raw: bool) -> Writer:
        return PlainWriter(self.write)

    def answering(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def width(self) -> int:
        return 80

    def height(self) -> int:
        return 24


def loaded(engine: FakeEngine, name: str = "tiny", level: str | None = "Q8_0") -> LoadedModel:
    """A model that is that engine."""
    file = ModelFile(name, Path(f"{name}.gguf"), level=level)
    header = GGUFHeader(file.path, 3, {VOCABULARY: name}, (), 0, 0)
    return LoadedModel(engine, file, header, "freewilly2", PLAN)  # type: ignore[arg-type]


class Session:
    """A chat whose user types ``lines``; ``others`` are what else can be loaded."""

    def __init__(
        self,
        *lines: str | type[BaseException],
        engine: FakeEngine | None = None,
        folder: Path | None = None,
        edited: str = "",
        state: State | None = None,
    ) -> None:
        self.engine = engine or FakeEngine()
        self.screen = FakeScreen(*lines, edited=edited)
        self.opened: list[tuple[str, str | None]] = []
        self.chat = Chat(
            loaded=loaded(self.engine),
            conversation=Conversation("be kind"),
            screen=self.screen,
            open=self.open,
            state=state or State(),
            recorder=Recorder(Folder(folder or Path("nowhere")), saves=folder is not None),
        )
        self.chat.recorder.begin(self.chat.recorder.speaker, "be kind")

    def open(self, model: str, prompt_format: str | None) -> LoadedModel:
        self.opened.append((model, prompt_format))
        return loaded(self.engine, Path(model).stem)

    @property
    def said(self) -> str:
        return self.screen.said

    @property
    def notes(self) -> list[str]:
        return self.screen.notes

    @property
    def turns(self) -> list[Message]:
        return self.chat.conversation.turns

    def run(self) -> Session:
        self.chat.run()
        return self
