from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from convert.pretokenizers import ALSO_WITH_NFC, IGNORING_MERGES, NFC, PRE_TOKENIZERS
from convert.tokenizer import read_tokenizer
from fwlocal.errors import BadCheckpoint
from fwlocal.llama.model import LoadOptions, Model
from tests.convert.tokenizers_made_here import (
    TEXTS,
    WIDE_SPACES,
    added_token,
    byte_level_json,
    sentencepiece_as_json,
    sentencepiece_model,
    write_json,
    write_sentencepiece,
    write_vocab_gguf,
)

ROWS = 1204  # of byte_level_json's 1200 tokens at most, and some padding
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
GPT_2 = PRE_TOKENIZERS["gpt-2"]
SPECIAL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0}


def loaded(folder: Path, n_rows: int) -> Model:
    """llama.cpp's view of the vocabulary that is made of the tokenizer in ``folder``."""
    path = folder / "vocab.gguf"
    write_vocab_gguf(path, read_tokenizer(folder, n_rows, n_rows))
    return Model(path, LoadOptions(vocab_only=True))


def values(folder: Path, n_rows: int) -> dict[str, Any]:
    """Key without its "tokenizer.ggml." -> value."""
    keys = read_tokenizer(folder, n_rows, n_rows)
    return {k.removeprefix("tokenizer.ggml."): value.value for k, value in keys.items()}


def refusal(folder: Path, n_rows: int = ROWS) -> str:
    with pytest.raises(BadCheckpoint) as caught:
        read_tokenizer(folder, n_rows, n_rows)
    return str(caught.value)


def write_byte_level(folder: Path, name: str = "gpt-2", normalizer: Any = None) -> Tokenizer:
    content = byte_level_json(
        PRE_TOKENIZERS[name], normalizer, ignore_merges=name in IGNORING_MERGES
    )
    write_json(folder / "tokenizer.json", content)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def test_llama_cpp_cuts_text_as_sentencepiece_does(tmp_path: Path) -> None:
    processor = write_sentencepiece(tmp_path)
    model = loaded(tmp_path, 512)
    for text in (*TEXTS, WIDE_SPACES):
        assert model.tokenize(text, special=False) == processor.encode(text), text


def test_sentencepiece_keys(tmp_path: Path) -> None:
    processor = write_sentencepiece(tmp_path)
    write_json(tmp_path / "config.json", {**SPECIAL_IDS, "pad_token_id": -1})
    found = values(tmp_path, 502)
    assert list(found) == [
        *("model", "pre", "tokens", "scores", "token_type"),
        *("bos_token_id", "eos_token_id", "unknown_token_id"),
    ]
    assert (found["model"], found["pre"]) == ("llama", "default")
    assert found["tokens"][:4] == [b"<unk>", b"<s>", b"</s>", b"<0x00>"]
    assert found["tokens"][259:500] == [processor.IdToPiece(n).encode() for n in range(259, 500)]
    assert found["tokens"][500:] == [b"[PAD500]", b"[PAD501]"]
    assert found["scores"][259:500] == [-float(n) for n in range(241)]
    assert found["scores"][500:] == [-10000.0, -10000.0]
    assert found["token_type"][:4] == [UNKNOWN, CONTROL, CONTROL, BYTE]
    assert set(found["token_type"][259:500]) == {NORMAL}
    assert found["token_type"][500:] == [UNUSED, UNUSED]


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


def test_merges_that_scores_cannot_express_are_refused(tmp_path: Path) -> None:
    content = sentencepiece_as_json(write_sentencepiece(tmp_path))
    (tmp_path / "tokenizer.model").unlink()
    merges = content["model"]["merges"]
    content["model"]["merges"] = [*merges[1:-1], merges[0]]  # "▁sea" by one of its ways only
    write_json(tmp_path / "tokenizer.json", content)
    assert "not in a SentencePiece model's order" in refusal(tmp_path)


NAMES = [(name, None) for name in PRE_TOKENIZERS] + [(name, NFC) for name in ALSO_WITH_NFC]


@pytest.mark.parametrize(("name", "normalizer"), NAMES)
def test_llama_cpp_cuts_text_as_the_tokenizer_json_says(
    tmp_path: Path, name: str, normalizer: Any
) -> None:
    reference = write_byte_level(tmp_path, name, normalizer)
    assert values(tmp_path, ROWS)["pre"] == name
    model = loaded(tmp_path, ROWS)
    texts = [text for text in TEXTS if normalizer is None or "\u0301" not in text]
    if name != "deepseek-coder":
        texts.append(WIDE_SPACES)
    pick = random.Random(name)
    characters = "abzABZéÉяЯ鲸にハ고 \t\n\r\u200b.,'’!?-–_()$€+<≤0129½²٣Ⅷ🐋👍🏽हिªǅʰ一龥"
    texts += ["".join(pick.choices(characters, k=6)) for _ in range(500)]
    for text in (*texts, "so Ġunmergeable", "so unmergeable"):
        assert model.tokenize(text, special=False) == encode(reference, text), text


def test_every_pre_tokenizer_cuts_differently(tmp_path: Path) -> None:
    """So the comparison above notices a wrong name."""
    texts = (*TEXTS, "so unmergeable")
    results = set()
    for name in PRE_TOKENIZERS:
        reference = write_byte_level(tmp_path, name)
        results.add(str([encode(reference, text) for text in texts]))
    assert len(results) == len(PRE_TOKENIZERS)


def test_byte_level_keys(tmp_path: Path) -> None:
    content = byte_level_json(GPT_2)
    vocab = content["model"]["vocab"]
    end = len(vocab)
    content["added_tokens"].append(added_token(end + 2, "▁free▁", special=False))
    content["added_tokens"].append(added_token(end + 3, "<|looks|>", special=False))
    write_json(tmp_path / "tokenizer.json", content)
    config = {"bos_token": "<|end|>", "eos_token": {"content": "<|end|>"}, "add_bos_token": False}
    write_json(tmp_path / "tokenizer_config.json", config)
    found = values(tmp_path, end + 4)
    assert list(found) == [
        *("model", "pre", "tokens", "token_type", "merges"),
        *("bos_token_id", "eos_token_id", "add_bos_token"),
    ]
    assert (found["model"], found["pre"]) == ("gpt2", "gpt-2")
    assert found["tokens"][:end] == [text.encode() for text in vocab]
    assert found["tokens"][end:] == [
        b"<|end|>",
        f"[PAD{end + 1}]".encode(),
        b" free ",
        b"<|looks|>",
    ]
    assert found["token_type"][end:] == [CONTROL, UNUSED, USER_DEFINED, CONTROL]
    assert found["merges"] == [" ".join(pair) for pair in content["model"]["merges"]]
    assert (found["bos_token_id"], found["eos_token_id"]) == (end, end)
    assert found["add_bos_token"] is False
    content["model"]["merges"] = found["merges"]  # the older spelling
    write_json(tmp_path / "tokenizer.json", content)
    assert values(tmp_path, end + 4) == found


def test_what_decides_nothing_is_ignored_and_what_decides_is_not(tmp_path: Path) -> None:
    content = byte_level_json(GPT_2)
    step = {"type": "ByteLevel", "add_prefix_space": False}
    for pre_tokenizer in (step, {**step, "trim_offsets": False, "use_regex": True}):
        write_json(tmp_path / "tokenizer.json", {**content, "pre_tokenizer": pre_tokenizer})
        assert values(tmp_path, ROWS)["pre"] == "gpt-2"
    content["pre_tokenizer"] = {**step, "add_prefix_space": True}
    write_json(tmp_path / "tokenizer.json", content)
    message = refusal(tmp_path)
    assert "unknown pre-tokenizer (fingerprint " in message
    assert "known are llama-bpe, smaug-bpe" in message


def test_special_tokens_flags_and_template(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)
    write_json(tmp_path / "config.json", SPECIAL_IDS)
    config = {"add_bos_token": True, "add_eos_token": False, "add_prefix_space": False}
    write_json(tmp_path / "tokenizer_config.json", {**config, "chat_template": "{{ a }}"})
    found = values(tmp_path, 512)
    assert next(iter(found)) == "add_space_prefix"
    assert found["add_space_prefix"] is False
    assert (found["add_bos_token"], found["add_eos_token"]) == (True, False)
    assert found["tokenizer.chat_template"] == "{{ a }}"
    write_json(tmp_path / "tokenizer_config.json", config)
    (tmp_path / "chat_template.jinja").write_text("{{ b }}", encoding="utf-8-sig")
    assert values(tmp_path, 512)["tokenizer.chat_template"] == "{{ b }}"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tools.jinja").write_text("{{ c }}")
    found = values(tmp_path, 512)
    assert found["tokenizer.chat_template"] == "{{ b }}"
    assert found["tokenizer.chat_template.tools"] == "{{ c }}"


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_byte_level(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": "<|end|>"})
    before = values(tmp_path, ROWS)
    for path in tmp_path.glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert values(tmp_path, ROWS) == before
    assert before["eos_token_id"] == before["tokens"].index(b"<|end|>")


def test_vocabularies_known_by_their_size(tmp_path: Path) -> None:
    """CodeLlama's has an end of turn, Granite's and SmolLM's were trained without BOS."""
    write_sentencepiece(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"add_bos_token": True})
    found = {n_rows: values(tmp_path, n_rows) for n_rows in (32016, 32017, 49152)}
    assert [keys.get("eot_token_id") for keys in found.values()] == [32010, None, None]
    assert [keys["add_bos_token"] for keys in found.values()] == [True, True, False]


def test_sizes_that_do_not_fit_are_told_with_both_numbers(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)
    with pytest.raises(BadCheckpoint, match="vocab_size is 512, but the embedding has 511 rows"):
        read_tokenizer(tmp_path, 512, 511)
    assert "token ids go to 499, but the model's embedding has 499 rows" in refusal(tmp_path, 499)
    (tmp_path / "tokenizer.model").unlink()
    write_byte_level(tmp_path)
    assert "but the model's embedding has 700 rows" in refusal(tmp_path, 700)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"no tokenizer: tokenizer.model or tokenizer.json expected in {tmp_path}; copy it from the "
        "model's repository"
    )


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


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("tokenizer_config.json", "[]", "holds no JSON object"),
        ("tokenizer_config.json", '{"add_prefix_space": 1}', "add_prefix_space is 1"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "added_tokens_decoder is no"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "a"}}}', "is no id"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"7": "a"}}', "has no content"),
        ("tokenizer_config.json", '{"chat_template": [7]}', "make no sense"),
        ("tokenizer_config.json", '{"chat_template": "\\ud800"}', "is not Unicode text"),
        ("added_tokens.json", '{"a": -1}', "-1 is no id of an added token"),
        ("added_tokens.json", '{"a": 1e999}', "inf is no id of an added token"),
        ("added_tokens.json", '{"<s>": 700}', "token '<s>' has the ids 1 and 700"),
        ("chat_template.json", "5", "holds no JSON object"),
        ("tokenizer.json", "not JSON", "tokenizer.json"),
        ("tokenizer.json", "[" * 100_000, "tokenizer.json"),
    ],
)
def test_side_files_that_make_no_sense(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    write_sentencepiece(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"legacy": true}')
    (tmp_path / name).write_text(content)
    assert expected in refusal(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_told_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "tokenizer.model").write_bytes(TRAINED)
    added = [added_token(1, "<s>", special=True)]
    write_json(folder / "tokenizer.json", {"added_tokens": added, "model": {"type": "BPE"}})
    config = {"added_tokens_decoder": {"1": {"content": "<s>"}}, "bos_token": "<s>"}
    write_json(folder / "tokenizer_config.json", config)
    path = folder / data.draw(st.sampled_from(sorted(os.listdir(folder))))
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    with contextlib.suppress(BadCheckpoint):
        write_vocab_gguf(folder / "vocab.gguf", read_tokenizer(folder, 512, 512))


def test_reading_a_tokenizer_does_not_load_its_training_library() -> None:
    """``tokenizers`` is there for these tests only."""
    code = "import convert.tokenizer, sys; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_types_are_ggufs() -> None:
    names = ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE")
    assert [int(gguf.TokenType[name]) for name in names] == [1, 2, 3, 4, 5, 6]
