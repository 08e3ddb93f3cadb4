"""Which models may draft for which, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.draft import check_draft
from fwlocal.draft.compatible import check_outline
from fwlocal.errors import UsageError
from fwlocal.gguf import GGUFHeader, read_header
from fwlocal.shapes import LlamaShape
from tests import tiny_llama, tiny_mamba
from tests.offload.models import SHAPES, header_of

Token = tuple[str, float, int]


def header(folder: Path, name: str, *extra: Token, layers: int = 1) -> GGUFHeader:
    shape = tiny_llama.Shape(
        num_hidden_layers=layers, vocab_size=len(tiny_llama.vocabulary()) + len(extra)
    )
    return read_header(tiny_llama.write_gguf(folder / name, shape, extra_tokens=extra))


def words(*texts: str) -> list[Token]:
    return [(text, -50.0, 1) for text in texts]


def refused(target: GGUFHeader, draft: GGUFHeader, *named: str) -> str:
    with pytest.raises(UsageError) as caught:
        check_draft(target, draft)
    message = str(caught.value)
    assert "\n" not in message
    for name in named or (draft.path.name, target.path.name):
        assert name in message
    return message


@pytest.fixture
def target(tmp_path: Path) -> GGUFHeader:
    return header(tmp_path, "large.gguf", *words("one", "two"), layers=2)


def test_a_smaller_model_of_the_same_vocabulary(target: GGUFHeader, tmp_path: Path) -> None:
    check_draft(target, header(tmp_path, "small.gguf", *words("one", "two")))


def test_padding_may_follow(target: GGUFHeader, tmp_path: Path) -> None:
    check_draft(target, header(tmp_path, "short.gguf", *words("one")))
    padding = [f"[PAD{n}]" for n in range(20)]
    check_draft(target, header(tmp_path, "long.gguf", *words("one", "two", *padding)))


def test_the_first_differing_token_is_named_with_both_spellings(
    target: GGUFHeader, tmp_path: Path
) -> None:
    message = refused(target, header(tmp_path, "other.gguf", *words("zwei", "drei")))

    first = len(tiny_llama.vocabulary())
    assert f"token {first} is 'zwei' and not 'one'" in message


def test_many_more_tokens_are_no_padding(target: GGUFHeader, tmp_path: Path) -> None:
    many = [f"t{n}" for n in range(130)]

    message = refused(target, header(tmp_path, "many.gguf", *words("one", "two", *many)))

    assert f"{len(tiny_llama.vocabulary()) + 132} tokens" in message


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [("model", "gpt2", "vocabulary is gpt2 and not llama"), ("bos_token_id", 7, "BOS token is 7")],
)
def test_a_vocabulary_of_another_kind(
    target: GGUFHeader, tmp_path: Path, key: str, value: str | int, what: str
) -> None:
    draft = header(tmp_path, "other.gguf", *words("one", "two"))
    other = replace(draft, metadata={**draft.metadata, f"tokenizer.ggml.{key}": value})

    assert what in refused(target, other)


def test_a_file_without_a_vocabulary(target: GGUFHeader, tmp_path: Path) -> None:
    draft = header(tmp_path, "other.gguf", *words("one", "two"))
    keys = {k: v for k, v in draft.metadata.items() if k != "tokenizer.ggml.tokens"}

    assert "no vocabulary" in refused(target, replace(draft, metadata=keys))


def test_a_draft_that_is_no_smaller(target: GGUFHeader, tmp_path: Path) -> None:
    large = header(tmp_path, "larger.gguf", *words("one", "two"), layers=4)

    message = refused(target, large)

    assert "KiB" in message
    assert "smaller" in message
    refused(target, replace(target, path=tmp_path / "same.gguf"))


def test_what_keeps_a_state_neither_drafts_nor_is_drafted_for(
    target: GGUFHeader, tmp_path: Path
) -> None:
    mamba = read_header(tiny_mamba.write_gguf(tmp_path / "mamba.gguf"))

    assert "the draft mamba.gguf keeps a state" in refused(target, mamba, "mamba.gguf")
    assert "mamba.gguf keeps a state" in refused(mamba, target, "mamba.gguf")


def outline_of(shape: LlamaShape, name: str) -> GGUFHeader:
    """A header without a vocabulary, of a model whose file is not here."""
    return header_of(shape, "Q4_K_M", name=name)


def test_of_a_model_that_is_not_here_the_number_of_tokens_must_do() -> None:
    large, small = outline_of(SHAPES["70B"], "large.gguf"), outline_of(SHAPES["7B"], "small.gguf")
    check_outline(large, small)
    with pytest.raises(UsageError, match="a draft must be smaller"):
        check_outline(small, large)
    other = outline_of(replace(SHAPES["7B"], n_vocab=49152), "other.gguf")
    with pytest.raises(UsageError, match="it has 49152 tokens and not 32000"):
        check_outline(large, other)
