from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from convert.tokens.pretokenizers import ALSO_WITH_NFC, NFC, PRE_TOKENIZERS
from tests.convert.tokenizers_made_here import (
    ROWS,
    TEXTS,
    WIDE_SPACES,
    byte_level_json,
    encode,
    loaded,
    refusal,
    values,
    write_byte_level,
    write_json,
)

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


def test_what_decides_nothing_is_ignored_and_what_decides_is_not(tmp_path: Path) -> None:
    content = byte_level_json(PRE_TOKENIZERS["gpt-2"])
    step = {"type": "ByteLevel", "add_prefix_space": False}
    for pre_tokenizer in (step, {**step, "trim_offsets": False, "use_regex": True}):
        write_json(tmp_path / "tokenizer.json", {**content, "pre_tokenizer": pre_tokenizer})
        assert values(tmp_path, ROWS)["pre"] == "gpt-2"
    content["pre_tokenizer"] = {**step, "add_prefix_space": True}
    write_json(tmp_path / "tokenizer.json", content)
    message = refusal(tmp_path)
    assert "unknown pre-tokenizer (fingerprint " in message
    assert "known are llama-bpe, smaug-bpe" in message
