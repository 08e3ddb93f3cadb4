from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.tokens.pretokenizers import PRE_TOKENIZERS
from convert.tokens.tokenizer import read_tokenizer
from convert.tokens.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from fwlocal.errors import BadCheckpoint
from tests.convert.tokenizers_made_here import (
    ROWS,
    added_token,
    byte_level_json,
    refusal,
    sentencepiece_model,
    values,
    write_byte_level,
    write_json,
    write_sentencepiece,
    write_vocab_gguf,
)

SPECIAL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0}


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


def test_byte_level_keys(tmp_path: Path) -> None:
    content = byte_level_json(PRE_TOKENIZERS["gpt-2"])
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


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("tokenizer_config.json", "[]", "holds no JSON object"),
        ("tokenizer_config.json", '{"add_prefix_space": 1}', "add_prefix_space is 1"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "added_tokens_decoder is no"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "a"}}}', "is no id"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"7": "a"}}', "has no content"),
        ("tokenizer_config.json", '{"chat_template": [7]}', "make no sense"),
        (
            "tokenizer_config.json",
            '{"chat_template": [{"name": "a", "template": 5}]}',
            "a chat template is 5",
        ),
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
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
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
    code = "import convert.tokens.tokenizer, sys; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
