"""Tokenizer files made on the spot: tiny vocabularies, trained in milliseconds.

A SentencePiece model as Llama's, the same in Hugging Face's spelling, and byte-level BPE behind
any pre-tokenizer; and a GGUF of nothing but a vocabulary, for llama.cpp to cut text with.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from convert.tokens.pretokenizers import IGNORING_MERGES, PRE_TOKENIZERS
from convert.tokens.tokenizer import read_tokenizer
from fwlocal.errors import BadCheckpoint
from fwlocal.llama.model import LoadOptions, Model

ROWS = 1204  # enough for any vocabulary made here, with some padding
LINES = (
    "The whale sings in the sea, and the sea sings back to the whale.",
    "I'm sure they'll say we've won; it's 2024 and he'd said so 1234 times, WE'RE told.",
    "Schöne Grüße aus Köln: naïve Straßen, déjà vu, été, Łódź.",
    "Мы говорим по-русски, а кит поёт в море.",
    "鯨は海で歌う。鯨鱼在海里唱歌，12345次。고래가 바다에서 노래한다",
    "def sing(n: int) -> str:\n    return ' '.join(['la'] * n)  # la la\n\n\n\tx += 1;;\r\n",
    "    four spaces,  two  spaces,\ttabs\t\tand\n\n\nnew lines   ",
    "🐋 🐳🐳 sea-song!!! ... ((())) == != <= => {x: [1, 22, 333, 4444]} $5.00 100% @me #tag",
    "hello world, hello sea, hello whale; worlds and words and wording",
)
TEXTS = (
    *LINES,
    "\n".join(LINES),
    "",
    " ",
    "a",
    "   leading and trailing   ",
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n",
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 ½ ² ٣٤",
    "I've 'told HE'S THERE, 'RE you sure? 'M not sure 'D like a'lL We'Ve",
    "🚀 (normal) 😶\u200d🌫️ (several at once) ✅ 🦙🦙",
    "हिन्दी में नमस्ते, សួស្តី, שלום, مرحبا",
    "carriage\r\nreturn\rline\nfeed",
    "''''''```````\"\"\"\"......!!!!!!?????? ------=======",
    "Ünïcödé ﬁ ŉ Ⅷ x² e\u0301 (a mark alone) Ångström",
)

WIDE_SPACES = "no\u00a0break\u2003em\u3000full, no\u00a0break\u2003em\u3000full"


def sentencepiece_model(vocab_size: int = 500, **options: Any) -> bytes:
    """The bytes of a tokenizer.model trained as Llama's was: BPE, bytes, <unk> <s> </s>."""
    model = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "vocab_size": vocab_size,
        "byte_fallback": True,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "num_threads": 1,
        "minloglevel": 2,
        **options,
    }
    SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, **settings)
    return model.getvalue()


def write_sentencepiece(folder: Path) -> SentencePieceProcessor:
    """A tokenizer.model of 500 tokens in ``folder``; gives what encodes with it."""
    model = sentencepiece_model()
    (folder / "tokenizer.model").write_bytes(model)
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return processor


def sentencepiece_as_json(processor: SentencePieceProcessor) -> dict[str, Any]:
    """The tokenizer.json that transformers makes of a Llama's tokenizer.model.

    A merge is every pair of pieces that spells a third, ordered by the third's score.
    """
    pieces = {processor.IdToPiece(n): n for n in range(processor.vocab_size())}
    pairs = [
        (pieces[piece], piece[:at], piece[at:])
        for piece in pieces
        for at in range(1, len(piece))
        if piece[:at] in pieces and piece[at:] in pieces
    ]
    pairs.sort(key=lambda pair: -processor.GetScore(pair[0]))
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return {
        "version": "1.0",
        "added_tokens": [added_token(n, processor.IdToPiece(n), special=True) for n in (0, 1, 2)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace],
        },
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": pieces,
            "merges": [f"{left} {right}" for _, left, right in pairs],
        },
    }


def added_token(number: int, content: str, *, special: bool) -> dict[str, Any]:
    """An entry of a tokenizer.json's added_tokens."""
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def byte_level_json(
    steps: Sequence[Mapping[str, Any]],
    normalizer: Any = None,
    *,
    vocab_size: int = 1200,
    ignore_merges: bool = False,
) -> dict[str, Any]:
    """A tokenizer.json of byte-level BPE behind the pre_tokenizer of ``steps`` (JSON).

    It is trained without cuts, so merges reach over all of them: text that is cut in another place
    gets other tokens. Its last token but one, "Ġunmergeable", no merges reach; the last is <|end|>.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator((*TEXTS, WIDE_SPACES), trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    written = [
        {**step, "trim_offsets": True} if step["type"] == "ByteLevel" else step for step in steps
    ]
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": written}
    content["normalizer"] = normalizer
    content["model"]["ignore_merges"] = ignore_merges
    vocab = content["model"]["vocab"]
    vocab["Ġunmergeable"] = len(vocab)
    content["added_tokens"] = [added_token(len(vocab), "<|end|>", special=True)]
    return content


def write_json(path: Path, value: Any) -> None:
    """``value`` in the file at ``path``."""
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_vocab_gguf(path: Path, keys: Mapping[str, gguf.GGUFValue]) -> None:
    """A GGUF of ``keys`` and no tensors, enough for llama.cpp's vocab_only."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in keys.items():
        writer.add_key_value(key, value.value, value.type, value.sub_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def write_byte_level(folder: Path, name: str = "gpt-2", normalizer: Any = None) -> Tokenizer:
    """A tokenizer.json in ``folder`` that cuts text as llama.cpp's ``name``; gives its encoder."""
    content = byte_level_json(
        PRE_TOKENIZERS[name], normalizer, ignore_merges=name in IGNORING_MERGES
    )
    write_json(folder / "tokenizer.json", content)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of ``text`` alone."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def loaded(folder: Path, n_rows: int = ROWS) -> Model:
    """llama.cpp's vocabulary out of the tokenizer in ``folder``."""
    path = folder / "vocab.gguf"
    write_vocab_gguf(path, read_tokenizer(folder, n_rows, n_rows))
    return Model(path, LoadOptions(vocab_only=True))


def values(folder: Path, n_rows: int = ROWS) -> dict[str, Any]:
    """Every key, without its "tokenizer.ggml.", and its value."""
    keys = read_tokenizer(folder, n_rows, n_rows)
    return {k.removeprefix("tokenizer.ggml."): value.value for k, value in keys.items()}


def refusal(folder: Path, n_rows: int = ROWS) -> str:
    """The error that the tokenizer in ``folder`` gives."""
    with pytest.raises(BadCheckpoint) as caught:
        read_tokenizer(folder, n_rows, n_rows)
    return str(caught.value)
