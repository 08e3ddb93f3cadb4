"""Two levels of one tiny model in a store, and a chat around one of them, without a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf

from fwlocal.conversation import Conversation
from fwlocal.engine import EngineLike
from fwlocal.loader import EngineOptions, Library, LoadedModel, load, open_file
from fwlocal.repl.state import State
from fwlocal.sessions.recording import Recorder
from tests import tiny_llama

FORMAT = "freewilly2"


def write_level(path: Path, level: str, shape: tiny_llama.Shape | None = None) -> Path:
    """The tiny model with its matrices at a level of llama.cpp's simple ones, such as Q4_0."""
    shape = shape or tiny_llama.Shape()
    kind = gguf.GGMLQuantizationType[level]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    tiny_llama.add_sizes(writer, shape)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_dimension_count(shape.head_dim)
    tiny_llama.add_vocabulary(writer, tiny_llama.vocabulary())
    for name, tensor in tiny_llama.checkpoint(shape).items():
        data = tiny_llama.permuted(name, tensor, shape)
        is_matrix = data.ndim == 2
        packed = gguf.quants.quantize(data, kind) if is_matrix else data
        writer.add_tensor(tiny_llama.gguf_name(name), packed, raw_dtype=kind if is_matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored(home: Path, level: str, name: str = "whale", **options: Any) -> Path:
    """A level where the store keeps it."""
    return write_level(home / name / f"{name}-{level}.gguf", level, **options)


class FakeScreen:
    """Keeps what is written; the user types ``lines``, exceptions among them are raised."""

    color = False

    def __init__(self, width: int = 80, lines: Sequence[str | BaseException] = ()) -> None:
        self.cells, self.lines = width, list(lines)
        self.shown, self.notes, self.prompts = "", list[str](), list[str]()

    def write(self, text: str) -> None:
        self.shown += text

    def note(self, line: str) -> None:
        self.notes.append(line)

    def ask_line(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    def answering(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def width(self) -> int:
        return self.cells

    def height(self) -> int:
        return 24


class FakeChat:
    """A chat with ``model``; ``refusals`` are what its loads raise, None for those that go well.
    ``log`` is what happened to models."""

    def __init__(self, model: str, screen: FakeScreen) -> None:
        self.screen = screen
        self.state = State(max_tokens=12, sampling={"temperature": 0.0})
        self.recorder = Recorder(saves=False)
        self.refusals: list[Exception | None] = []
        self.log: list[str] = []
        self.options = EngineOptions(prompt_format=FORMAT, n_threads=1)
        self.loaded = self._open(model)
        self._with_sampling()
        self.conversation = Conversation("be kind")
        self.opened = [self.loaded]

    @property
    def engine(self) -> EngineLike:
        return self.loaded.engine

    def go_on_with(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def load(self, model: str, prompt_format: str | None = None) -> LoadedModel:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        loaded = self._open(model)
        self.opened.append(loaded)
        self.log.append(f"load {loaded.file.level or loaded.file.name}")
        return loaded

    def replace(self, loaded: LoadedModel) -> None:
        before, self.loaded = self.loaded, loaded
        before.engine.close()
        self.log.append(f"replace {loaded.file.level or loaded.file.name}")
        self._with_sampling()

    @contextlib.contextmanager
    def release(self) -> Iterator[None]:
        before = self.loaded
        before.engine.close()
        self.log.append("release")
        try:
            yield
        finally:
            if self.loaded is before:
                self.replace(self.load(str(before.file.path)))

    def ask(self, text: str) -> str:
        """A question and its answer in the ordinary way."""
        self.conversation.ask(text)
        generation = self.engine.chat(self.conversation.messages, max_tokens=12)
        said = "".join(generation)
        self.conversation.answered(generation.result)
        return said

    def close(self) -> None:
        for loaded in self.opened:
            loaded.engine.close()

    def is_open(self, loaded: LoadedModel) -> bool:
        """Whether its engine still answers."""
        try:
            loaded.engine.text_tokens("the")
        except RuntimeError:
            return False
        return True

    def _open(self, model: str) -> LoadedModel:
        file, header = open_file(model, Library.default())
        return load(file, header, self.options)

    def _with_sampling(self) -> None:
        self.engine.sampling = self.engine.sampling.updated(self.state.sampling)
