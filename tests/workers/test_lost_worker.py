"""A chat over two workers, one of which dies in mid-answer: the error is said, `/retry` goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fwlocal.conversation import Conversation
from fwlocal.loader import EngineOptions, Library, LoadedModel, open_model
from fwlocal.repl.loop import Chat
from fwlocal.repl.state import State
from tests import tiny_llama
from tests.repl.fakes import FakeScreen
from tests.workers.loopback import LoopbackWorker

SAID = "a" * 500
SAMPLING = {"temperature": 1.0, "seed": 1, "grammar": f'root ::= "a"{{{len(SAID)}}}'}
MIB = 1 << 20


class User(FakeScreen):
    """A user who does ``steps``: a line is typed, anything else is done. ``after`` so many pieces
    of an answer, ``then`` happens, once."""

    def __init__(self, *steps: str | Callable[[], None]) -> None:
        super().__init__()
        self.steps = iter(steps)
        self.n_pieces, self.after = 0, 5
        self.then: Callable[[], None] = lambda: None

    def ask(self, default: str = "") -> str:
        for step in self.steps:
            if isinstance(step, str):
                return step
            step()
        raise EOFError

    def write(self, text: str) -> None:
        super().write(text)
        self.n_pieces += 1
        if self.n_pieces == self.after:
            self.then()

    def chat_with(self, loaded: LoadedModel) -> Conversation:
        chat = Chat(loaded, Conversation(None), self, no_other, State(sampling=SAMPLING))
        chat.run()
        return chat.conversation


def no_other(model: str, prompt_format: str | None) -> LoadedModel:
    raise AssertionError(f"{model} is not asked for")


def load_on(workers: tuple[LoopbackWorker, LoopbackWorker], folder: Path) -> LoadedModel:
    """A model of four layers, which neither worker may hold alone."""
    shape = tiny_llama.Shape(num_hidden_layers=4, max_position_embeddings=4096)
    path = tiny_llama.write_gguf(folder / "four.gguf", shape)
    options = EngineOptions(
        n_ctx=4096,
        kv_type="f16",
        n_threads=1,
        prompt_format="freewilly2",
        gpu_margin=0,
        gpu_memory=(7 * MIB, 7 * MIB),
        workers=tuple(worker.address for worker in workers),
    )
    library = Library.default()
    return open_model(str(path), options, library)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_chat_survives_the_loss_of_a_worker(tmp_path: Path, home: Path, victim: int) -> None:
    with LoopbackWorker() as first, LoopbackWorker() as second:
        loaded = load_on((first, second), tmp_path)
        assert [share.n_layers > 0 for share in loaded.plan.gpus] == [True, True]
        lost = (first, second)[victim]
        session = User("hello", "/retry", lost.restart, "/retry", "and now?")
        session.then = lost.kill
        with loaded.engine:
            conversation = session.chat_with(loaded)

    assert session.notes[0] == (
        f"worker {lost.address} was lost in mid-answer; start it again, then /retry"
    )
    assert lost.address in session.notes[1]
    assert len(session.notes) == 2
    assert session.said.startswith("aaaaa")
    assert session.said.endswith(f"a\n{SAID}\n{SAID}\n")
    assert [(turn.role, turn.content) for turn in conversation.turns] == [
        ("user", "hello"),
        ("assistant", SAID),
        ("user", "and now?"),
        ("assistant", SAID),
    ]


def test_a_worker_that_was_restarted_between_two_answers_is_found_again(
    tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LoopbackWorker() as first, LoopbackWorker() as second:
        loaded = load_on((first, second), tmp_path)

        def restart() -> None:
            first.kill()
            first.restart()

        session = User("hello", restart, "and now?")
        with loaded.engine:
            conversation = session.chat_with(loaded)

    assert session.notes == []
    assert [turn.content for turn in conversation.turns] == ["hello", SAID, "and now?", SAID]
    assert "loading again" in caplog.text
