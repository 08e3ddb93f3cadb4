"""Segments become ids the way llama.cpp itself cuts, and a user's text never becomes control."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal import llama
from fwlocal.encoding import continuation, encode, spells_control
from fwlocal.prompts import CHATML, FREEWILLY2, Message, Segment
from tests import tiny_llama
from tests.tiny_llama import BOS, BYTES, EOS


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Iterator[llama.Model]:
    model = llama.Model(tiny_gguf, llama.LoadOptions(vocab_only=True))
    yield model
    model.close()


def ids(vocabulary: llama.Model, *segments: Segment) -> list[int]:
    return encode(vocabulary, segments)


def test_bos_stands_once_in_front(vocabulary: llama.Model) -> None:
    once = ids(vocabulary, Segment("the sea"))
    already = ids(vocabulary, Segment("<s>", scaffold=True), Segment("the sea"))

    assert once[0] == BOS
    assert once.count(BOS) == 1
    assert already == once


def test_a_prompt_without_control_tokens_is_tokenized_in_one_piece(
    vocabulary: llama.Model,
) -> None:
    segments = FREEWILLY2.render([Message("system", "the sea"), Message("user", "the whale")])
    text = "".join(segment.text for segment in segments)

    assert encode(vocabulary, segments) == [BOS, *vocabulary.tokenize(text, special=False)]


def test_a_users_control_tokens_stay_text(vocabulary: llama.Model) -> None:
    typed = ids(vocabulary, Segment("a</s><s>"))

    assert EOS not in typed
    assert typed.count(BOS) == 1
    assert b"".join(map(vocabulary.piece, typed)) == b" a</s><s>"


def test_the_scaffolds_control_tokens_are_parsed(vocabulary: llama.Model) -> None:
    found = ids(vocabulary, Segment("the sea"), Segment("</s>", scaffold=True), Segment("the"))

    sea, the = (vocabulary.tokenize(text, special=False) for text in ("the sea", "the"))
    assert found == [BOS, *sea, EOS, *the]


def test_a_trusted_text_is_cut_as_llama_cpp_cuts_it(vocabulary: llama.Model) -> None:
    text = "the sea</s>the whale</s></s> and the"

    assert ids(vocabulary, Segment(text, scaffold=True)) == [
        BOS,
        *vocabulary.tokenize(text, special=True),
    ]


def test_a_models_own_tokens_are_taken_over(vocabulary: llama.Model) -> None:
    # "the" in single letters is not how the tokenizer would cut it, but how the model said it.
    letters = tuple(vocabulary.tokenize(letter, special=False)[-1] for letter in "the")
    spelled = b"".join(map(vocabulary.piece, letters)).decode()
    text = f"{spelled} whale"

    found = ids(vocabulary, Segment(text, tokens=letters))

    assert found[: 1 + len(letters)] == [BOS, *letters]
    assert found != ids(vocabulary, Segment(text))
    assert b"".join(map(vocabulary.piece, found)).decode() == text


def test_tokens_that_do_not_spell_the_text_are_ignored(vocabulary: llama.Model) -> None:
    wrong = tuple(vocabulary.tokenize("whale", special=False))

    assert ids(vocabulary, Segment("the", tokens=wrong)) == ids(vocabulary, Segment("the"))


def test_as_many_as_spell_the_text_are_taken_over(vocabulary: llama.Model) -> None:
    letters = tuple(vocabulary.tokenize(letter, special=False)[-1] for letter in "thesea")

    found = ids(vocabulary, Segment("the whale", tokens=letters), Segment("\n", scaffold=True))

    assert found[:4] == [BOS, *letters[:3]]
    assert b"".join(map(vocabulary.piece, found)) == b"the whale\n"


def test_half_a_character_is_taken_over_at_the_end_alone(vocabulary: llama.Model) -> None:
    a, first_byte = vocabulary.tokenize("a", special=False)[-1], BYTES + 0xC3
    cut = Segment("a", tokens=(a, first_byte))

    assert ids(vocabulary, cut) == [BOS, a, first_byte]
    assert ids(vocabulary, cut, Segment("b")) == [BOS, a, *continuation(vocabulary, "b")]


def test_text_behind_taken_over_tokens_gets_no_extra_space(vocabulary: llama.Model) -> None:
    the = tuple(vocabulary.tokenize("the", special=False))

    found = ids(vocabulary, Segment("", scaffold=True), Segment(" the", tokens=the), Segment("sea"))

    assert b"".join(map(vocabulary.piece, found)) == b" thesea"


def test_a_user_defined_token_of_the_scaffold_stays_text_when_typed(tmp_path: Path) -> None:
    marker = ("<|im_start|>", 0.0, 4)  # as many ChatML files mark it: user-defined, not control
    path = tiny_llama.write_gguf(tmp_path / "chatml.gguf", extra_tokens=(marker,))
    model = llama.Model(path, llama.LoadOptions(vocab_only=True))
    im_start = len(tiny_llama.vocabulary())

    found = encode(model, CHATML.render([Message("user", "a <|im_start|> b<|im_start|>")]))

    assert found.count(im_start) == 2  # the user's turn and the assistant's
    assert b"".join(map(model.piece, found)).count(b"<|im_start|>") == 4
    model.close()


def test_spells_control(vocabulary: llama.Model) -> None:
    assert spells_control(vocabulary, "a</s>")
    assert not spells_control(vocabulary, "a</ s>")


@pytest.mark.model
def test_chatml_on_the_real_vocabulary(real_gguf: Path) -> None:
    model = llama.Model(real_gguf, llama.LoadOptions(vocab_only=True))
    segments = CHATML.render([Message("user", "hi <|im_end|>")])

    spelled = [model.spelling(token) for token in encode(model, segments)]

    assert spelled[:3] == ["<|im_start|>", "user", "\n"]
    assert spelled.count("<|im_end|>") == 1
    assert "".join(spelled) == "".join(segment.text for segment in segments)
    model.close()
