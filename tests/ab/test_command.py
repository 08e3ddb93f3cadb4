"""/ab in a chat with real engines: what is shown, what stays, and which model answers then."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fwlocal.answer import Generation
from fwlocal.attachments import read_attachments
from fwlocal.conversation import Change
from fwlocal.errors import (
    BadModelFile,
    DoesNotFit,
    FwlocalError,
    Interrupted,
    ModelNotFound,
    PromptTooLong,
)
from fwlocal.markdown.clean import clean
from fwlocal.prompts import Message
from fwlocal.repl.ab import AB_COMMANDS, KEPT_NOTE, compare
from fwlocal.repl.duel import IN_TURN_NOTE
from tests import tiny_llama
from tests.ab.levels import FakeChat, FakeScreen, stored

ENOUGH, TIGHT = (lambda: 64 << 30), (lambda: 1 << 20)
Made = Callable[..., FakeChat]


@pytest.fixture
def chat(home: Path) -> Iterator[Made]:
    """A chat with whale:Q4_0, one question old; its user types ``lines``."""
    made: list[FakeChat] = []
    for level in ("Q4_0", "Q5_0", "Q8_0"):
        stored(home, level)

    def make(*lines: str | BaseException, width: int = 100, asked: bool = True) -> FakeChat:
        chat = FakeChat("whale:Q4_0", FakeScreen(width, lines))
        made.append(chat)
        if asked:
            chat.ask("the whale sings")
        return chat

    yield make
    for chat in made:
        chat.close()


def ab(chat: FakeChat, typed: str, available: Callable[[], int] = ENOUGH) -> str:
    return compare(chat, typed, available)  # type: ignore[arg-type]


def contents(chat: FakeChat) -> list[str]:
    return [message.content for message in chat.conversation.turns]


def alone(home: Path, model: str, question: str = "the whale sings") -> str:
    """What a level says when nobody else is there."""
    chat = FakeChat(model, FakeScreen())
    try:
        return chat.ask(question)
    finally:
        chat.close()


def shape(text: str) -> str:
    """All but white space."""
    return "".join(text.split())


def test_both_answer_as_each_does_alone(chat: Made, home: Path) -> None:
    here = chat("1", width=400)

    said = ab(here, "Q4_0 Q8_0")

    assert said == "Going on with Q4_0."
    heading, *rows = here.screen.shown.splitlines()
    assert [half.strip() for half in heading.split("│")] == ["Q4_0", "Q8_0"]
    assert here.screen.shown.count("tok/s") == 2
    text = rows[: next(index for index, row in enumerate(rows) if row.startswith("─"))]
    for half, model in enumerate(("whale:Q4_0", "whale:Q8_0")):
        said = "".join(row.split("│")[half] for row in text)
        assert said.count("«") == 1
        assert shape(said.replace("«", "").replace("»", "")) == shape(clean(alone(home, model)))


def test_the_pick_becomes_the_answer_and_its_level_goes_on(chat: Made, home: Path) -> None:
    here = chat("2")
    first = here.loaded

    said = ab(here, "Q4_0 Q8_0")

    assert said == "Going on with Q8_0."
    assert contents(here) == ["the whale sings", alone(home, "whale:Q8_0").rstrip()]
    assert here.loaded.file.level == "Q8_0"
    assert here.log == ["load Q8_0", "replace Q8_0"]
    assert not here.is_open(first)
    assert here.state.last is not None
    here.ask("and the sea")
    assert here.state.last.prompt_tokens > 0


def test_picking_the_level_that_is_loaded_loads_nothing_again(chat: Made) -> None:
    here = chat("A")
    before = contents(here)

    assert ab(here, "Q8_0 Q4_0") == "Going on with Q8_0."
    here = chat("b")
    assert ab(here, "Q8_0 Q4_0") == "Going on with Q4_0."
    assert here.log == ["load Q8_0"]
    assert contents(here) == before
    assert here.is_open(here.loaded)
    assert not here.is_open(here.opened[1])


@pytest.mark.parametrize("typed", ["", EOFError(), KeyboardInterrupt()])
def test_neither_leaves_all_as_it_was(chat: Made, typed: str | BaseException) -> None:
    here = chat("7", typed)
    before, changes = list(here.conversation.turns), list[Change]()
    here.conversation.on_change = changes.append

    assert ab(here, "Q8_0") == KEPT_NOTE

    assert here.conversation.turns == before
    assert changes == []
    assert here.screen.notes == ["It is 1 or 2, or Enter alone."]
    assert here.is_open(here.loaded)
    assert [here.is_open(model) for model in here.opened] == [True, False]


def test_a_new_message_is_asked(chat: Made, home: Path) -> None:
    here = chat("1", asked=False)

    ab(here, "Q8_0 Q4_0 the sea\nand the whale")

    assert contents(here) == [
        "the sea\nand the whale",
        alone(home, "whale:Q8_0", "the sea\nand the whale").rstrip(),
    ]


@pytest.mark.parametrize(("pick", "n_attached"), [("1", 0), ("", 1)])
def test_attached_files_go_with_a_new_message(
    chat: Made, tmp_path: Path, pick: str, n_attached: int
) -> None:
    (tmp_path / "sea.txt").write_text("deep")
    here = chat(pick)
    here.state.attached += read_attachments([str(tmp_path / "sea.txt")])

    ab(here, "Q4_0 Q8_0 what is it")

    assert len(here.state.attached) == n_attached
    assert len(here.conversation.turns) == (4 if pick else 2)
    if pick:
        assert "deep" in contents(here)[2]


@pytest.mark.parametrize(("pick", "n_left"), [("2", 1), ("", 0)])
def test_in_a_full_context_the_oldest_turns_leave_for_both(
    chat: Made, pick: str, n_left: int
) -> None:
    here = chat(pick, asked=False)
    here.ask("the whale sings " * 20)

    ab(here, f"Q4_0 Q8_0 {'of the sea ' * 12}")

    assert here.conversation.n_left == n_left
    assert len(here.conversation.turns) == (4 if pick else 2)


def test_there_must_be_something_to_ask(chat: Made) -> None:
    with pytest.raises(FwlocalError, match="/ab A B MESSAGE"):
        ab(chat(asked=False), "Q4_0 Q8_0")


def test_a_message_behind_one_name_is_explained(chat: Made) -> None:
    with pytest.raises(ModelNotFound, match=r"called 'Why'; before a message, /ab takes two names"):
        ab(chat(), "Q8_0 Why is the sea blue?")


def test_the_same_seed_and_sampling_for_both(chat: Made, home: Path, tmp_path: Path) -> None:
    here = chat(*[""] * 5)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes((home / "whale" / "whale-Q4_0.gguf").read_bytes())
    here.state.sampling = {"temperature": 1.5, "top_k": 0}
    here.engine.sampling = here.engine.sampling.updated(here.state.sampling)

    for _ in range(5):
        ab(here, f"Q4_0 {copy}")
        assert here.screen.shown.splitlines()[-1].split("│")[0].strip() == "equal"


def test_a_narrow_screen_has_one_above_the_other(chat: Made) -> None:
    here = chat("", width=60)

    ab(here, "Q4_0 Q8_0")

    lines = here.screen.shown.splitlines()
    assert "│" not in here.screen.shown
    assert lines[0] == "Q4_0"
    assert lines.index("Q8_0") > 3
    assert here.screen.shown.count("«") == 2


@pytest.mark.parametrize(
    ("typed", "pick", "log"),
    [
        ("Q8_0", "2", ["release", "load Q8_0", "replace Q8_0"]),
        ("Q8_0", "1", ["release", "load Q8_0", "load Q4_0", "replace Q4_0"]),
        ("Q8_0 Q5_0", "2", ["release", "load Q8_0", "load Q5_0", "replace Q5_0"]),
        ("Q8_0 Q5_0", "1", ["release", "load Q8_0", "load Q5_0", "load Q8_0", "replace Q8_0"]),
        ("Q8_0 Q5_0", "", ["release", "load Q8_0", "load Q5_0", "load Q4_0", "replace Q4_0"]),
    ],
)
def test_where_both_do_not_fit_they_answer_in_turn(
    chat: Made, typed: str, pick: str, log: list[str]
) -> None:
    here = chat(pick)

    ab(here, typed, TIGHT)

    assert here.screen.notes == [IN_TURN_NOTE]
    assert here.log == log
    assert here.is_open(here.loaded)
    assert sum(map(here.is_open, here.opened)) == 1
    assert "│" not in here.screen.shown
    assert "where " in here.screen.shown or "equal" in here.screen.shown
    assert len(here.conversation.turns) == 2


def test_a_load_that_does_not_fit_beside_is_made_alone(chat: Made) -> None:
    here = chat("2")
    here.refusals = [DoesNotFit("no memory")]

    assert ab(here, "Q4_0 Q8_0") == "Going on with Q8_0."
    assert here.screen.notes == [IN_TURN_NOTE]


@pytest.mark.parametrize("available", [ENOUGH, TIGHT])
def test_a_load_that_fails_leaves_all_as_it_was(chat: Made, available: Callable[[], int]) -> None:
    here = chat()
    before = list(here.conversation.turns)
    here.refusals = [BadModelFile("it is broken")]

    with pytest.raises(BadModelFile, match="broken"):
        ab(here, "Q4_0 Q8_0", available)

    assert here.conversation.turns == before
    assert here.loaded.file.level == "Q4_0"
    assert here.is_open(here.loaded)


def test_another_vocabulary_is_compared_by_characters(chat: Made, tmp_path: Path) -> None:
    size = tiny_llama.Shape().vocab_size
    other = tiny_llama.write_gguf(
        tmp_path / "squid.gguf",
        tiny_llama.Shape(vocab_size=size + 1),
        extra_tokens=(("<odd>", 0.0, 4),),
    )
    here = chat("2")
    here.ask("and the sea")
    loaded_before = here.loaded

    assert ab(here, str(other)) == "Going on with squid."
    assert "character" in here.screen.shown
    assert not here.loaded.header.has_tokens_of(loaded_before.header)


def test_a_smaller_context_is_told_and_a_prompt_too_long_for_it_names_it(
    chat: Made, home: Path
) -> None:
    small = stored(home, "Q8_0", "squid", shape=tiny_llama.Shape(max_position_embeddings=256))
    here = chat("")

    assert ab(here, str(small)) == KEPT_NOTE
    assert here.screen.notes == [
        "The context of squid:Q8_0 holds 256 tokens, that of Q4_0 512.",
    ]
    with pytest.raises(FwlocalError, match=r"squid:Q8_0: the prompt has \d+ tokens") as error:
        ab(here, f"Q4_0 {small} {'the whale ' * 30}")
    assert isinstance(error.value.__cause__, PromptTooLong)
    assert len(here.conversation.turns) == 2
    assert here.is_open(here.loaded)


class Stopping:
    """An engine in whose answer a signal comes after two pieces, or ``before`` all of them."""

    def __init__(self, engine: Any, signum: int, before: bool) -> None:
        self._engine, self._signum, self._before = engine, signum, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def chat(self, messages: tuple[Message, ...], **options: Any) -> Generation:
        generation = self._engine.chat(messages, **options)
        return Generation(self._steps(generation))

    def _steps(self, generation: Generation) -> Any:
        if self._before:
            signal.raise_signal(self._signum)
        for index, piece in enumerate(generation):
            if index == 2 and not self._before:
                signal.raise_signal(self._signum)
            yield piece
        return generation.result


def interrupted(chat: FakeChat, signum: int, *, before: bool = False) -> None:
    stopping: Any = Stopping(chat.loaded.engine, signum, before)
    chat.loaded = replace(chat.loaded, engine=stopping)


@pytest.mark.parametrize(("available", "n_sides"), [(ENOUGH, 2), (TIGHT, 1)])
def test_ctrl_c_stops_both_and_what_was_said_can_be_picked(
    chat: Made, available: Callable[[], int], n_sides: int
) -> None:
    here = chat("1", width=60)
    interrupted(here, signal.SIGINT)

    assert ab(here, "Q4_0 Q8_0", available) == "Going on with Q4_0."

    assert here.screen.shown.count("interrupted") == n_sides
    assert here.screen.prompts[0].startswith("1 or 2," if n_sides == 2 else "1,")
    assert here.state.last is not None
    assert here.state.last.finish_reason == "interrupt"
    assert contents(here)[1] == here.state.last.text.rstrip()


def test_ctrl_c_before_a_word_was_said_asks_for_no_pick(chat: Made) -> None:
    here = chat()
    interrupted(here, signal.SIGINT, before=True)

    assert ab(here, "Q4_0 Q8_0") == "(stopped)"
    assert here.screen.prompts == []
    assert "nothing was said" in here.screen.shown


def test_termination_ends_the_chat(chat: Made) -> None:
    here = chat()
    interrupted(here, signal.SIGTERM)

    with pytest.raises(Interrupted) as ended:
        ab(here, "Q4_0 Q8_0")

    assert ended.value.exit_code == 143
    assert here.engine.interrupt.signal == signal.SIGTERM


def test_levels_and_models_are_completed(chat: Made) -> None:
    chat()
    (command,) = AB_COMMANDS

    assert [text for text, _ in command.completes("q")] == ["Q4_0", "Q5_0", "Q8_0"]
    assert [text for text, _ in command.completes("Q4_0 whale:q8")] == ["Q4_0 whale:Q8_0"]
    assert list(command.completes("Q4_0 Q8_0 why")) == []
