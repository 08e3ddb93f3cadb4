"""Which of llama.cpp's pre-tokenizers cuts text as a tokenizer.json's does, known by its content.

llama.cpp's own converter knows a byte-level BPE tokenizer by a hash over some encoded text, which
is another one for every vocabulary. Here the normalizer, the pre_tokenizer and what else decides
the cutting are brought into one canonical spelling and looked up. The regexes and the switches
behind each name are those of ``llm_tokenizer_bpe`` in llama.cpp's ``src/llama-vocab.cpp``; only
names that cut exactly as the JSON says are listed ("tekken" and "gpt-4o" only come near it). One
exception is harmless: "deepseek-coder" leaves out a cut after spaces beyond ASCII, which no merge
of a vocabulary that was trained with that cut can cross.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

Step = Mapping[str, Any]

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
SPACES = r"\s+(?!\S)|\s+"
LLAMA_3 = (
    rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{SPACES}"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
SEED_CODER = (
    rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1}}"
    rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|{SPACES}"
)


def split(regex: str) -> Step:
    """The step that cuts around every match of ``regex``."""
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def byte_level(*, use_regex: bool) -> Step:
    """The step that spells bytes as printable characters, ``use_regex``: after GPT-2's cuts."""
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


DIGITS: Step = {"type": "Digits", "individual_digits": True}
NFC: Step = {"type": "NFC"}
PRE_TOKENIZERS: Mapping[str, tuple[Step, ...]] = {
    "llama-bpe": (split(LLAMA_3), byte_level(use_regex=False)),
    "smaug-bpe": (split(LLAMA_3), byte_level(use_regex=False)),
    "qwen2": (split(QWEN_2), byte_level(use_regex=False)),
    "smollm": (DIGITS, byte_level(use_regex=True)),
    "gpt-2": (byte_level(use_regex=True),),
    "deepseek-coder": (
        split(r"[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split("[一-龥\u0800-一가-\ud7ff]+"),
        DIGITS,
        byte_level(use_regex=False),
    ),
    "seed-coder": (split(SEED_CODER), byte_level(use_regex=False)),
}
# Where llama.cpp takes a word that is in the vocabulary whole, whatever the merges say.
IGNORING_MERGES = {"llama-bpe"}
# llama.cpp never normalizes: text that is not in NFC gets other tokens. Its own converter accepts
# that for Qwen's vocabularies, all of which come with NFC.
ALSO_WITH_NFC = {"qwen2"}


def metaspace(prepend_scheme: str) -> Step:
    """The step that spells spaces "▁" and cuts nothing."""
    scheme = {"prepend_scheme": prepend_scheme, "split": False}
    return {"type": "Metaspace", "replacement": "▁", **scheme}


REPLACE: Step = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND: Step = {"type": "Prepend", "prepend": "▁"}

# SentencePiece as Hugging Face spells it -> whether a text gets a space before it.
SPACE_PREFIX: tuple[tuple[tuple[Step, ...], tuple[Step, ...], bool], ...] = (
    ((PREPEND, REPLACE), (), True),
    ((REPLACE,), (), False),
    ((), (metaspace("always"),), True),
    ((), (metaspace("first"),), True),
    ((), (metaspace("never"),), False),
)


def canonical(normalizer: Any, pre_tokenizer: Any, model: Mapping[str, Any]) -> str:
    """One spelling for all contents that cut alike: what is left out does not decide the cuts.

    Sequences are laid flat, ``trim_offsets`` (positions only) is dropped, defaults are filled in.
    """
    content = {
        "normalizer": [_plain(step) for step in _steps(normalizer, "normalizers")],
        "pre_tokenizer": [_plain(step) for step in _steps(pre_tokenizer, "pretokenizers")],
        "ignore_merges": bool(model.get("ignore_merges")),
        "byte_fallback": bool(model.get("byte_fallback")),
        "affixes": [
            model.get("continuing_subword_prefix") or "",
            model.get("end_of_word_suffix") or "",
        ],
    }
    return json.dumps(content, sort_keys=True)


def fingerprint(content: str) -> str:
    """The first 16 hex digits of the SHA-256 of canonical content, to name an unknown one by."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _steps(node: Any, children: str) -> Iterator[Any]:
    """The steps of a normalizer or pre_tokenizer in their order, nested sequences laid flat."""
    if isinstance(node, dict) and node.get("type") == "Sequence":
        steps = node.get(children)
        for step in steps if isinstance(steps, list) else [steps]:
            yield from _steps(step, children)
    elif node is not None:
        yield node


DEFAULTS: Mapping[str, Step] = {"ByteLevel": {"use_regex": True}, "Split": {"invert": False}}


def _plain(step: Any) -> Any:
    """``step`` with its defaults, without what only decides positions or was renamed since."""
    if not isinstance(step, dict):
        return step
    kind = step.get("type")
    plain = {**DEFAULTS.get(kind if isinstance(kind, str) else "", {}), **step}
    plain.pop("trim_offsets", None)
    if kind == "Metaspace" and "prepend_scheme" in plain:
        plain.pop("add_prefix_space", None)  # what prepend_scheme was before it had a third value
    if kind == "Split" and isinstance(plain.get("pattern"), dict):
        plain["pattern"] = {key: _escaped(value) for key, value in plain["pattern"].items()}
    return plain


def _escaped(regex: Any) -> Any:
    """Line ends in a regex as escapes: JSON files have both spellings."""
    if not isinstance(regex, str):
        return regex
    return regex.replace("\r", r"\r").replace("\n", r"\n")


def _known_byte_level() -> Iterator[tuple[str, str]]:
    for name, steps in PRE_TOKENIZERS.items():
        sequence = {"type": "Sequence", "pretokenizers": list(steps)}
        model = {"ignore_merges": name in IGNORING_MERGES}
        for normalizer in (None, NFC) if name in ALSO_WITH_NFC else (None,):
            yield canonical(normalizer, sequence, model), name


def _known_sentencepiece() -> Iterator[tuple[str, bool]]:
    for normalizers, pre_tokenizers, prefix in SPACE_PREFIX:
        normalizer = {"type": "Sequence", "normalizers": list(normalizers)}
        pre_tokenizer = {"type": "Sequence", "pretokenizers": list(pre_tokenizers)}
        yield canonical(normalizer, pre_tokenizer, {"byte_fallback": True}), prefix


BYTE_LEVEL: Mapping[str, str] = dict(_known_byte_level())  # canonical content -> llama.cpp's name
SENTENCEPIECE: Mapping[str, bool] = dict(_known_sentencepiece())  # content -> space before a text
