from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer

from convert.tokens import vocabulary
from convert.tokens.pretokenizers import PRE_TOKENIZERS
from convert.tokens.vocabulary import CONTROL, USER_DEFINED
from tests.convert.tokenizers_made_here import (
    TEXTS,
    WIDE_SPACES,
    byte_level_json,
    encode,
    loaded,
    refusal,
    sentencepiece_as_json,
    sentencepiece_model,
    values,
    write_json,
    write_sentencepiece,
)

GPT_2 = PRE_TOKENIZERS["gpt-2"]


def test_llama_cpp_cuts_text_as_sentencepiece_does(tmp_path: Path) -> None:
    processor = write_sentencepiece(tmp_path)
    model = loaded(tmp_path, 512)
    for text in (*TEXTS, WIDE_SPACES):
        assert model.tokenize(text, special=False) == processor.encode(text), text


def test_tokens_added_to_a_sentencepiece_model(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)
    write_json(tmp_path / "added_tokens.json", {"<first>": 500, "▁kept": 501, "[PAD]": 504})
    decoder = {
        "1": {"content": "<s>", "special": True},
        "502": {"content": "▁spaced▁", "special": False},
        "503": {"content": "<|looks|>", "special": False},
    }
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": decoder})
    found = values(tmp_path, 504)  # [PAD] has no row in the embedding: left out
    assert found["tokens"][500:] == [
        b"<first>",
        "▁kept".encode(),
        b" spaced ",
        b"<|looks|>",
    ]
    assert found["token_type"][500:] == [USER_DEFINED, USER_DEFINED, USER_DEFINED, CONTROL]
    assert found["scores"][500:] == [-1000.0] * 4
    assert (found["token_type"][1], found["scores"][1]) == (CONTROL, -1000.0)


def test_sentencepiece_in_hugging_faces_spelling_gets_its_scores_back(tmp_path: Path) -> None:
    processor = write_sentencepiece(tmp_path)
    trained = values(tmp_path, 512)
    (tmp_path / "tokenizer.model").unlink()
    write_json(tmp_path / "tokenizer.json", sentencepiece_as_json(processor))
    found = values(tmp_path, 512)
    assert found["tokens"] == trained["tokens"]
    assert found["token_type"] == trained["token_type"]
    assert found["scores"][3:] == trained["scores"][3:]
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    model = loaded(tmp_path, 512)
    for text in (*TEXTS, WIDE_SPACES):
        assert model.tokenize(text, special=False) == encode(reference, text), text


METASPACE = {"type": "Metaspace", "replacement": "▁", "split": False}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}}, False),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "first"}}, None),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "never"}}, False),
    ],
)
def test_the_space_before_a_text(
    tmp_path: Path, change: dict[str, Any], expected: bool | None
) -> None:
    processor = write_sentencepiece(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    write_json(tmp_path / "tokenizer.json", {**sentencepiece_as_json(processor), **change})
    assert values(tmp_path, 512).get("add_space_prefix") is expected
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    model = loaded(tmp_path, 512)
    for text in ("the whale", "sea, sea", "wording"):
        assert model.tokenize(text, special=False) == encode(reference, text), text


def test_runs_of_spaces_have_one_score(tmp_path: Path) -> None:
    """As in Llama's vocabulary; their merges then stand in the order of their lengths."""
    content = sentencepiece_as_json(write_sentencepiece(tmp_path))
    (tmp_path / "tokenizer.model").unlink()
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    runs = ["▁" * length for length in range(1, 17)]
    for run in runs:
        vocab.setdefault(run, len(vocab))
    pairs = [f"{a} {b}" for a in reversed(runs) for b in reversed(runs) if a + b in vocab]
    content["model"]["merges"] = [merge for merge in merges if merge not in pairs] + pairs
    write_json(tmp_path / "tokenizer.json", content)
    found = values(tmp_path)
    scores = dict(zip(found["tokens"], found["scores"], strict=True))
    assert len({scores[run.encode()] for run in runs[1:]}) == 1
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    model = loaded(tmp_path)
    for text in (*TEXTS, *(f"sea{' ' * n}sea" for n in range(40))):
        assert model.tokenize(text, special=False) == encode(reference, text), text


def test_merges_that_scores_cannot_express_are_refused(tmp_path: Path) -> None:
    content = sentencepiece_as_json(write_sentencepiece(tmp_path))
    (tmp_path / "tokenizer.model").unlink()
    merges = content["model"]["merges"]
    made = Counter(merge.replace(" ", "") for merge in merges)
    moved = next(merge for merge in merges if made[merge.replace(" ", "")] > 1)
    merges.remove(moved)
    write_json(tmp_path / "tokenizer.json", content)
    assert f"one that makes {moved.replace(' ', '')!r} is missing" in refusal(tmp_path)
    merges.append(moved)
    write_json(tmp_path / "tokenizer.json", content)
    assert "not in the order of the tokens they make" in refusal(tmp_path)


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n"
TRAINED = sentencepiece_model()


@pytest.mark.parametrize(
    "data", [b"", b"{}", LFS_POINTER, TRAINED[:3000], bytes(range(256)) * 9, b"<html></html>"]
)
def test_a_tokenizer_model_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    message = refusal(tmp_path)
    assert "tokenizer.model: no valid SentencePiece model" in message
    assert "\n" not in message


def test_a_tokenizer_model_without_bytes(tmp_path: Path) -> None:
    model = sentencepiece_model(220, byte_fallback=False, character_coverage=1.0)
    (tmp_path / "tokenizer.model").write_bytes(model)
    assert "256 of the 256 byte tokens are missing" in refusal(tmp_path)


def spoilt(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Tokenizer files that are JSON, and what is wrong with them."""
    model = content["model"]
    vocab = model["vocab"]

    def with_model(**change: Any) -> dict[str, Any]:
        return {**content, "model": {**model, **change}}

    yield {}, 'has no "model"'
    yield with_model(type="WordPiece"), "the tokenizer's type is 'WordPiece', not BPE"
    yield with_model(type="Unigram"), "the tokenizer's type is 'Unigram', not BPE"
    yield with_model(vocab={}), 'has no "vocab"'
    yield with_model(vocab={**vocab, "a": True}), "the id of token 'a' is True"
    yield with_model(vocab={**vocab, "a": -1}), "the id of token 'a' is -1"
    yield with_model(vocab={**vocab, "a": 1}), "two tokens have one id"
    yield with_model(vocab={**vocab, "\ud800": 1200}), "is not Unicode text"
    yield with_model(merges=[]), 'has no "merges"'
    yield with_model(merges=[["a", "b", "c"]]), "is no pair"
    yield with_model(merges=["a"]), "is no pair"
    yield with_model(merges=[model["merges"][0], "a b"]), "the merge 'a b' is no pair"
    yield with_model(merges=[["a", 5]]), "is of no tokens"
    yield with_model(merges=["a €"]), "is of no tokens"
    yield with_model(merges=["§ §"]), "makes no token"
    yield with_model(end_of_word_suffix="</w>"), "unknown pre-tokenizer"
    yield {**content, "normalizer": {"type": "Lowercase"}}, "unknown pre-tokenizer"
    yield {**content, "added_tokens": {"a": 1}}, "added_tokens is no list"
    yield {**content, "added_tokens": [{"id": 3}]}, "has no content"
    yield {**content, "added_tokens": [{"id": "3", "content": "x"}]}, "is no id of an added token"
    yield {**content, "added_tokens": [{"id": 9999, "content": "x"}]}, "token ids go to 9999"
    yield {**content, "added_tokens": [{"id": 1200, "content": "a"}]}, "token 'a' has the ids"
    yield {**content, "post_processor": [7]}, "make no sense"


def test_tokenizer_json_that_makes_no_sense(tmp_path: Path) -> None:
    for content, expected in spoilt(byte_level_json(GPT_2)):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        message = refusal(tmp_path)
        assert expected in message
        assert str(tmp_path) in message


def test_the_types_are_ggufs() -> None:
    for name in ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE"):
        assert getattr(vocabulary, name) == int(gguf.TokenType[name])
