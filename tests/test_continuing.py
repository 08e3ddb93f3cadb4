"""An answer that was cut goes on as if it had not been, wherever it was cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal.answer import Result
from fwlocal.conversation import Conversation
from fwlocal.engine import Engine, EngineLike
from fwlocal.errors import BadGrammar
from fwlocal.loader import EngineOptions, Library, open_model
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams
from tests import tiny_llama

GREEDY = SamplingParams(temperature=0)
ANSWER = 60  # tokens
QUESTION = "the whale sings"
CHARACTERS = SamplingParams(temperature=0, grammar='root ::= " " [é中🐋a]{18}')


@pytest.fixture(params=["freewilly2", "chatml", "gguf"])
def engine(request: pytest.FixtureRequest, tiny_gguf: Path, library: Library) -> Iterator[Engine]:
    """The random model in a format of each kind; its own is a Jinja template."""
    options = EngineOptions(prompt_format=request.param, n_threads=1)
    with open_model(str(tiny_gguf), options, library=library).engine as engine:
        assert isinstance(engine, Engine)
        yield engine


def answered(
    engine: EngineLike, chat: Conversation, n_tokens: int, sampling: SamplingParams = GREEDY
) -> Result:
    generation = engine.chat(chat.messages, sampling=sampling, max_tokens=n_tokens)
    assert "".join(generation) == generation.result.text
    return generation.result


def in_two(
    engine: EngineLike, cut: int, sampling: SamplingParams = GREEDY, *, n_tokens: int = ANSWER
) -> tuple[Conversation, Result]:
    """The chat after an answer that was cut and went on, and how it ended."""
    chat = Conversation("be kind")
    chat.ask(QUESTION)
    chat.answered(answered(engine, chat, cut, sampling))
    chat.go_on()
    more = answered(engine, chat, n_tokens - cut, sampling)
    chat.continued(more)
    return chat, more


def whole(
    engine: EngineLike, sampling: SamplingParams = GREEDY, *, n_tokens: int = ANSWER
) -> tuple[Message, Result]:
    chat = Conversation("be kind")
    chat.ask(QUESTION)
    result = answered(engine, chat, n_tokens, sampling)
    return result.message, result


def test_an_answer_cut_at_any_token_goes_on_as_if_it_was_not(engine: Engine) -> None:
    uncut, result = whole(engine)

    for cut in range(1, len(result.tokens)):
        chat, more = in_two(engine, cut)
        assert chat.turns[-1] == uncut, cut
        assert more.finish_reason == result.finish_reason
        assert more.reused_tokens == more.prompt_tokens - 1


def test_one_cut_in_the_middle_of_a_character_too(engine: Engine) -> None:
    uncut, result = whole(engine, CHARACTERS)
    assert result.finish_reason == "stop"
    assert len({"é", "中", "🐋"} & set(uncut.content)) > 1

    for cut in range(1, result.completion_tokens):
        chat, more = in_two(engine, cut, CHARACTERS)
        assert chat.turns[-1] == uncut, cut
        assert more.finish_reason == "stop"


def test_it_may_be_cut_again_and_again(engine: Engine) -> None:
    uncut, _ = whole(engine, n_tokens=12)
    chat = Conversation("be kind")
    chat.ask(QUESTION)
    chat.answered(answered(engine, chat, 1))
    for _ in range(11):
        chat.go_on()
        chat.continued(answered(engine, chat, 1))

    assert chat.turns[-1] == uncut


def test_white_space_at_a_cut_stays(tiny_engine: Engine) -> None:
    spaces = SamplingParams(temperature=0, grammar='root ::= "a" " "{3} "b" " "{2}')
    chat, _ = in_two(tiny_engine, 3, spaces)

    assert chat.turns[-1].content == "a   b"


def test_a_stop_string_across_the_cut_stops_and_leaves_nothing_behind(
    tiny_engine: Engine,
) -> None:
    text = whole(tiny_engine)[0].content
    stop = text[len(text) // 2 :][:6]
    tiny_engine.stop = (stop,)
    stopped, result = whole(tiny_engine)
    assert (stopped.content, result.finish_reason) == (text[: text.index(stop)].rstrip(), "stop")

    n_dropped = set()
    for cut in range(1, result.completion_tokens):
        chat, more = in_two(tiny_engine, cut)
        assert (chat.turns[-1].content, more.finish_reason) == (stopped.content, "stop"), cut
        n_dropped.add(more.n_dropped)
    assert len(n_dropped) > 1  # some cuts fell into the stop string


def test_the_next_question_finds_the_answer_in_the_cache(tiny_engine: Engine) -> None:
    chat, _ = in_two(tiny_engine, 20)
    chat.ask("and the sea")

    result = answered(tiny_engine, chat, 4)

    known = tiny_engine.count(chat.messages[:-1])
    assert result.reused_tokens >= known - 1


def test_half_a_character_is_no_part_of_a_later_prompt(tiny_engine: Engine) -> None:
    chat = Conversation(None)
    chat.ask(QUESTION)
    chat.answered(answered(tiny_engine, chat, 2, CHARACTERS))
    half = chat.turns[-1]
    pieces = map(tiny_engine.model.piece, half.tokens)
    assert half.content.encode() != b"".join(pieces)

    chat.ask("and the sea")

    prompt = b"".join(map(tiny_engine.model.piece, tiny_engine.prompt_tokens(chat.messages)))
    assert half.content in prompt.decode()


def test_the_repeat_penalty_sees_what_was_said_before_the_cut(tiny_engine: Engine) -> None:
    shy = SamplingParams(temperature=0, repeat_penalty=1.5)
    uncut, _ = whole(tiny_engine, shy, n_tokens=30)

    assert uncut != whole(tiny_engine, n_tokens=30)[0]
    assert in_two(tiny_engine, 15, shy, n_tokens=30)[0].turns[-1] == uncut


def test_without_its_tokens_an_answer_goes_on_from_its_text(tiny_engine: Engine) -> None:
    letters = SamplingParams(temperature=0, grammar='root ::= "a"{9}')
    messages = [Message("user", QUESTION), Message("assistant", "aaaa")]

    generation = tiny_engine.chat(messages, sampling=letters)

    assert "".join(generation) == "aaaaa"


def test_an_answer_that_a_grammar_forbids_cannot_go_on_under_it(tiny_engine: Engine) -> None:
    letters = SamplingParams(temperature=0, grammar='root ::= "a"{9}')
    messages = [Message("user", QUESTION), Message("assistant", "abba")]

    with pytest.raises(BadGrammar, match="so far does not obey"):
        tiny_engine.chat(messages, sampling=letters)


def test_the_count_is_that_of_the_prompt(tiny_engine: Engine) -> None:
    chat, result = in_two(tiny_engine, 5)

    assert tiny_engine.count(chat.messages) == len(tiny_engine.prompt_tokens(chat.messages))
    assert result.prompt_tokens == tiny_engine.count(chat.messages[:-1]) + 5


@pytest.fixture
def wordy_engine(tmp_path: Path, library: Library) -> Iterator[Engine]:
    """A model that knows more whole words, each with the space before it."""
    words = tuple((f"▁whale{n}", -30.0 - n, 1) for n in range(8))
    shape = tiny_llama.Shape(vocab_size=tiny_llama.Shape().vocab_size + len(words))
    path = tiny_llama.write_gguf(tmp_path / "wordy.gguf", shape, seed=5, extra_tokens=words)
    with open_model(
        str(path), EngineOptions(prompt_format="freewilly2", n_threads=1), library=library
    ).engine as engine:
        assert isinstance(engine, Engine)
        yield engine


def test_words_with_a_space_before_them(wordy_engine: Engine) -> None:
    says = SamplingParams(
        temperature=0, grammar='root ::= (" whale" [0-7] | " the" | " sea" | " é"){12}'
    )
    uncut, result = whole(wordy_engine, says)
    assert uncut.content.startswith(" ")

    for cut in range(1, result.completion_tokens):
        assert in_two(wordy_engine, cut, says)[0].turns[-1] == uncut, cut
