"""A vocabulary out of a checkpoint's tokenizer files: every token's text, score and type, by id.

Three kinds of file: ``tokenizer.model`` (SentencePiece), and of ``tokenizer.json`` its two kinds
of BPE, SentencePiece's in Hugging Face's spelling (``byte_fallback``) and byte-level. Texts,
scores and types are those of llama.cpp's converter (``conversion/base.py``:
``_create_vocab_sentencepiece``, ``get_vocab_base``), except for Hugging Face's spelling of
SentencePiece, where that one writes a single score for all tokens and loses the order of merges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from reprlib import repr as short
from typing import Any

from sentencepiece import SentencePieceProcessor

from convert.tokens.pretokenizers import (
    BYTE_LEVEL,
    PRE_TOKENIZERS,
    SENTENCEPIECE,
    canonical,
    fingerprint,
)
from fwlocal.errors import BadCheckpoint

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # gguf.TokenType
ADDED_SCORE, PAD_SCORE = -1000.0, -10000.0  # as llama.cpp's converter has them
MODEL_LIMIT_BYTES = 64 << 20
MAX_TOKEN_CHARS = 1024  # of a token that merges make: every way to cut it is tried
BYTE_TOKENS = frozenset(f"<0x{value:02X}>" for value in range(256))
COPY = "copy it from the model's repository"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Token:
    """One token: its text as llama.cpp knows it, its score (SentencePiece only) and its type."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class Vocabulary:
    """All tokens by id, and llama.cpp's names for how text is cut into them.

    ``space_prefix`` is False where a text gets no space before it against the model's default.
    """

    model: str
    pre: str
    tokens: tuple[Token, ...]
    space_prefix: bool | None = None


def added_token(text: str, *, special: bool) -> Token:
    """A token added to a trained vocabulary: CONTROL, or one that a text may spell.

    llama.cpp looks for the latter before it turns spaces into "▁".
    """
    if special or _looks_special(text):
        return Token(text, ADDED_SCORE, CONTROL)
    return Token(text.replace("▁", " "), ADDED_SCORE, USER_DEFINED)


def _looks_special(text: str) -> bool:
    """llama.cpp's ``does_token_look_special``: some files call control tokens not special."""
    return (
        text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<｜") and text.endswith("｜>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )


def from_sentencepiece(path: Path, added: Iterable[tuple[int, Token]], n_rows: int) -> Vocabulary:
    """The vocabulary of the tokenizer.model at ``path`` with ``added`` tokens, ``n_rows`` long.

    An added token past the last row is left out, as llama.cpp's converter does: the model has no
    weights for it. Raises BadCheckpoint.
    """
    tokens = dict(enumerate(_pieces(path)))
    _check_ids(path, tokens, n_rows)
    tokens.update((number, token) for number, token in added if number < n_rows)
    _check_bytes(path, tokens)
    return Vocabulary("llama", "default", _lay_out(path, tokens, n_rows))


def _pieces(path: Path) -> list[Token]:
    """All pieces of a SentencePiece model; its native reader is given bounded bytes, not a path."""
    try:
        with path.open("rb") as file:
            data = file.read(MODEL_LIMIT_BYTES + 1)
        if len(data) > MODEL_LIMIT_BYTES:
            raise ValueError(f"over {MODEL_LIMIT_BYTES >> 20} MB")
        processor = SentencePieceProcessor()
        processor.LoadFromSerializedProto(data)
        pieces = [_piece(processor, number) for number in range(processor.vocab_size())]
    except OSError as error:
        raise BadCheckpoint(
            f"{path}: cannot be read ({error.strerror or error}); {COPY}"
        ) from error
    except (RuntimeError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        reason = " ".join(str(error).split())
        raise BadCheckpoint(f"{path}: no valid SentencePiece model ({reason}); {COPY}") from None
    if not all(math.isfinite(piece.score) for piece in pieces):
        raise BadCheckpoint(f"{path}: a piece's score is no number; {COPY}")
    return pieces


def _piece(processor: Any, number: int) -> Token:
    types = (
        (processor.IsUnknown, UNKNOWN),
        (processor.IsControl, CONTROL),
        (processor.IsUnused, UNUSED),
        (processor.IsByte, BYTE),
    )
    type_ = next((type_ for is_of, type_ in types if is_of(number)), NORMAL)
    return Token(processor.IdToPiece(number), processor.GetScore(number), type_)


def from_tokenizer_json(
    path: Path, tokenizer: Json, added: Mapping[int, Token], n_rows: int
) -> Vocabulary:
    """The vocabulary of a parsed tokenizer.json, ``n_rows`` long. Raises BadCheckpoint."""
    model = tokenizer.get("model")
    if not isinstance(model, dict):
        raise BadCheckpoint(f'{path}: has no "model" object; {COPY}')
    kind = model.get("type", "BPE" if "merges" in model else None)  # old files do not say it
    if kind != "BPE":
        raise BadCheckpoint(
            f"{path}: the tokenizer's type is {short(kind)}, not BPE, the only one supported; put "
            "the model's tokenizer.model beside it if there is one"
        )
    texts = _texts(path, model)
    pairs = _pairs(path, model, texts)
    content = canonical(tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer"), model)
    if content in BYTE_LEVEL:
        tokens = {number: Token(text, 0.0, NORMAL) for text, number in texts.items()}
        tokens.update(added)
        return Vocabulary("gpt2", BYTE_LEVEL[content], _lay_out(path, tokens, n_rows))
    if content in SENTENCEPIECE:
        tokens = _as_sentencepiece(path, model, texts, pairs, added)
        tokens = {n: token for n, token in tokens.items() if n < n_rows or n not in added}
        space_prefix = None if SENTENCEPIECE[content] else False
        return Vocabulary("llama", "default", _lay_out(path, tokens, n_rows), space_prefix)
    raise BadCheckpoint(
        f"{path}: unknown pre-tokenizer (fingerprint {fingerprint(content)}); known are "
        f"{', '.join(PRE_TOKENIZERS)} and SentencePiece's"
    )


def _texts(path: Path, model: Json) -> dict[str, int]:
    """The trained vocabulary, text -> id."""
    texts = model.get("vocab")
    if not isinstance(texts, dict) or not texts:
        raise BadCheckpoint(f'{path}: has no "vocab"; {COPY}')
    for text, number in texts.items():
        if type(number) is not int or number < 0:
            raise BadCheckpoint(f"{path}: the id of token {text!r} is {short(number)}; {COPY}")
    if len(set(texts.values())) < len(texts):
        raise BadCheckpoint(f"{path}: two tokens have one id; {COPY}")
    return texts


def _pairs(path: Path, model: Json, texts: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges in their order, in either of the two spellings: "a b" and ["a", "b"]."""
    merges = model.get("merges")
    if not isinstance(merges, list) or not merges:
        raise BadCheckpoint(f'{path}: has no "merges"; {COPY}')
    spelling = type(merges[0])
    pairs = []
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if type(merge) is not spelling or not isinstance(parts, list) or len(parts) != 2:
            raise BadCheckpoint(f"{path}: the merge {short(merge)} is no pair; {COPY}")
        for part in parts:
            if not isinstance(part, str) or part not in texts:
                raise BadCheckpoint(f"{path}: the merge {short(merge)} is of no tokens; {COPY}")
        if parts[0] + parts[1] not in texts:
            raise BadCheckpoint(f"{path}: the merge {short(merge)} makes no token; {COPY}")
        pairs.append((parts[0], parts[1]))
    return pairs


def _as_sentencepiece(
    path: Path,
    model: Json,
    texts: Mapping[str, int],
    pairs: Sequence[tuple[str, str]],
    added: Mapping[int, Token],
) -> dict[int, Token]:
    """The tokens of a SentencePiece model in Hugging Face's spelling, with scores as trained.

    SentencePiece's trainer scores the n-th merged token -n, and single characters below them all.
    """
    ranks = _ranks(path, pairs, {text for text, number in texts.items() if number not in added})
    tokens = {}
    below = max(ranks.values()) + 1
    for text, number in sorted(texts.items(), key=lambda item: item[1]):
        if text == model.get("unk_token"):
            tokens[number] = Token(text, 0.0, UNKNOWN)
        elif text in BYTE_TOKENS:
            tokens[number] = Token(text, 0.0, BYTE)
        elif number not in added:
            tokens[number] = Token(text, -float(ranks.get(text, below)), NORMAL)
            below += text not in ranks
    tokens.update((number, token) for number, token in added.items() if number not in tokens)
    _check_bytes(path, tokens)
    return tokens


def _ranks(path: Path, pairs: Sequence[tuple[str, str]], trained: set[str]) -> dict[str, int]:
    """Merged token -> its place among them. Raises BadCheckpoint where scores cannot say it all.

    Scores know the token that is made, not the pair it is made of. So all pairs that make one
    token must stand together, and any two tokens that spell a third must be a pair. Llama scores
    all runs of spaces alike: their pairs stand together, in an order that depends on the writer.
    """
    made = [left + right for left, right in pairs]
    groups = made if _stand_together(made) else [text if text.strip("▁") else "▁" for text in made]
    if not _stand_together(groups):
        raise _not_sentencepiece(path, "not in the order of the tokens they make")
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    known = set(pairs)
    for text in trained - BYTE_TOKENS:
        if len(text) > MAX_TOKEN_CHARS:
            raise _not_sentencepiece(path, f"a token of {len(text)} characters")
        cuts = ((text[:at], text[at:]) for at in range(1, len(text)))
        if any(a in trained and b in trained and (a, b) not in known for a, b in cuts):
            raise _not_sentencepiece(path, f"one that makes {text!r} is missing")
    return {text: places[group] for text, group in zip(made, groups, strict=True)}


def _stand_together(values: Sequence[str]) -> bool:
    """Whether equal values are neighbours."""
    return len([value for value, _ in groupby(values)]) == len(set(values))


def _not_sentencepiece(path: Path, reason: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"{path}: the merges are not those of a SentencePiece model ({reason}); put the "
        "model's tokenizer.model beside it"
    )


def check_text(path: Path, text: str) -> None:
    """JSON can escape half a character; a GGUF holds UTF-8."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadCheckpoint(f"{path}: {text[:40]!r} is not Unicode text; {COPY}")


def _check_bytes(path: Path, tokens: Mapping[int, Token]) -> None:
    """llama.cpp aborts on text that it can neither find nor spell in bytes."""
    missing = BYTE_TOKENS - {token.text for token in tokens.values()}
    if missing:
        raise BadCheckpoint(
            f"{path}: {len(missing)} of the 256 byte tokens are missing ({min(missing)} is one); "
            "only models trained with byte fallback, like Llama's, can be converted"
        )


def _check_ids(path: Path, tokens: Mapping[int, Token], n_rows: int) -> None:
    last = max(tokens, default=-1)
    if last >= n_rows:
        raise BadCheckpoint(
            f"{path}: token ids go to {last}, but the model's embedding has {n_rows} rows; "
            "take tokenizer and weights from one repository"
        )


def _lay_out(path: Path, tokens: Mapping[int, Token], n_rows: int) -> tuple[Token, ...]:
    """The tokens in the order of their ids, ids without one filled up with unused ones.

    Raises BadCheckpoint for ids outside, and for two tokens of one text: llama.cpp aborts on it.
    """
    _check_ids(path, tokens, n_rows)
    result = []
    seen: dict[str, int] = {}
    for number in range(n_rows):
        token = tokens.get(number) or Token(f"[PAD{number}]", PAD_SCORE, UNUSED)
        text = token.text or f"[EMPTY_{number}]"  # llama.cpp's name for it
        check_text(path, text)
        if seen.setdefault(text, number) != number:
            raise BadCheckpoint(
                f"{path}: token {text!r} has the ids {seen[text]} and {number}; {COPY}"
            )
        result.append(token)
    return tuple(result)
