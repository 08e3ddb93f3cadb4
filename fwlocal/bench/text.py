"""What is read to measure quality: a text, its tokens, and the chunks they are cut into.

Chunks, and which of their positions are scored, are those of llama.cpp's llama-perplexity
(tools/perplexity/perplexity.cpp), so that its figures and ours can be held against each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fwlocal.bench.measured import Entrant
from fwlocal.errors import UsageError
from fwlocal.gguf import GGUFArray, GGUFHeader, Value
from fwlocal.gguf.header import VOCABULARY

SHIPPED = Path(__file__).with_name("moby-dick.txt")
# What of a GGUF decides which tokens a text becomes, and what a token is. EOS is not in it: files
# of one model differ in that, and no text here becomes one.
TOKENIZER_KEYS = (
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    VOCABULARY,
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.normalizer.lowercase",
    "tokenizer.ggml.normalizer.strip_accents",
    "tokenizer.rwkv.world",
)
_SHORT_HASH, _SHORT_VALUE = 12, 40  # characters in a message


class Vocabulary(Protocol):
    """What of ``fwlocal.llama.Model`` is needed here."""

    bos: int
    adds_bos: bool

    def tokenize(self, text: str, *, special: bool) -> list[int]: ...


@dataclass(frozen=True)
class Text:
    """A text, what it is called in a report, and the SHA-256 of its file's bytes."""

    name: str
    sha256: str
    text: str


def read_text(path: Path | None) -> Text:
    """The text in a file, in UTF-8; None for the one that is shipped. A newline at its very end is
    no part of it, as with llama-perplexity's ``--file``.

    Raises UsageError for a file that is missing, unreadable, empty, or no UTF-8.
    """
    path = SHIPPED if path is None else path
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; --text takes a file") from None
    except OSError as error:
        # Windows calls a folder that is read a file that may not be.
        what = "is a folder" if path.is_dir() else f"cannot be read: {error.strerror or error}"
        raise UsageError(f"{path}: {what}; --text takes a text file in UTF-8") from error
    try:
        text = data.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: byte {error.start} is not UTF-8; --text takes a text file in UTF-8"
        ) from None
    if not text.strip():
        raise UsageError(f"{path}: has no text in it; --text takes a text file in UTF-8")
    return Text(path.name, hashlib.sha256(data).hexdigest(), text)


def tokens_of(model: Vocabulary, text: Text) -> list[int]:
    """The ids of a whole text, behind BOS where the file asks for one. Control tokens that it
    spells are text."""
    tokens = model.tokenize(text.text, special=False)
    return [model.bos, *tokens] if model.adds_bos else tokens


def bos_of(model: Vocabulary) -> int | None:
    """The id of BOS where the file asks for one, as ``chunks_of`` takes it."""
    return model.bos if model.adds_bos else None


def chunks_of(tokens: Sequence[int], n_ctx: int, bos: int | None) -> list[tuple[int, ...]]:
    """Pieces of ``n_ctx`` tokens, without what is left over; each begins with ``bos``, unless that
    is None, in place of its own first token.

    Raises UsageError for a text that is shorter than one.
    """
    if len(tokens) < n_ctx:
        raise UsageError(
            f"the text is too short: it has {len(tokens)} tokens, and one chunk takes {n_ctx}; "
            "give a longer one (--text) or a smaller --n-ctx"
        )
    starts = range(0, len(tokens) - n_ctx + 1, n_ctx)
    chunks = [tuple(tokens[start : start + n_ctx]) for start in starts]
    return chunks if bos is None else [(bos, *chunk[1:]) for chunk in chunks]


def first_scored(n_ctx: int) -> int:
    """The first position of a chunk that is scored, by the token behind it; the last one is
    ``n_ctx - 2``. Those before are context."""
    return n_ctx // 2


def tokenizer_hash(header: GGUFHeader) -> str:
    """The SHA-256, as 64 hex digits, of all that decides which tokens a text becomes and what each
    is: the same for two files only where their logits can be compared, token for token."""
    digest = hashlib.sha256()
    for key in TOKENIZER_KEYS:
        kind, data = _as_bytes(header.metadata.get(key))
        digest.update(f"{key} {kind} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def check_same_tokenizer(reference: Entrant, other: Entrant) -> None:
    """Raise UsageError unless both files have one tokenizer; it says where they differ first."""
    hashes = tokenizer_hash(reference.header), tokenizer_hash(other.header)
    if hashes[0] != hashes[1]:
        ours, theirs = (digest[:_SHORT_HASH] for digest in hashes)
        raise UsageError(
            f"{other.label}: its tokenizer ({theirs}) is not that of the reference "
            f"{reference.label} ({ours}): {_first_difference(other.header, reference.header)}; "
            "compare levels of one model"
        )


def _as_bytes(value: Value | None) -> tuple[str, bytes]:
    """A value's kind and its bytes, which no other value has."""
    if isinstance(value, GGUFArray):
        return f"{value.element_type}[{value.count}]", value.data
    return type(value).__name__, str(value).encode("utf-8", "surrogatepass")


def _first_difference(ours: GGUFHeader, theirs: GGUFHeader) -> str:
    for key in TOKENIZER_KEYS:
        a, b = ours.metadata.get(key), theirs.metadata.get(key)
        if _as_bytes(a) == _as_bytes(b):
            continue
        if isinstance(a, GGUFArray) and isinstance(b, GGUFArray):
            if a.count != b.count:
                return f"{key} has {a.count} entries, not {b.count}"
            for index, (x, y) in enumerate(zip(a, b, strict=True)):
                if x != y:
                    return f"{key}[{index}] is {_shown(x)}, not {_shown(y)}"
        return f"{key} is {_shown(a)}, not {_shown(b)}"
    raise ValueError("both have one tokenizer")


def _shown(value: Value | None) -> str:
    if value is None:
        return "missing"
    if isinstance(value, GGUFArray):
        return f"{value.count} entries of {value.element_type}"
    text = repr(value)
    return text if len(text) <= _SHORT_VALUE else f"{text[: _SHORT_VALUE - 1]}…"
