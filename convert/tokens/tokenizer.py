"""From a checkpoint folder's tokenizer files to GGUF's ``tokenizer.*`` keys.

The keys, their order and their values are those of llama.cpp's converter for LlamaForCausalLM
(``conversion/llama.py``: ``set_vocab``). The vocabulary is read in vocabulary.py; special
tokens, flags, merges and the chat template are left to ``gguf.SpecialVocab``, which is shown the
files' sound content alone: no byte-order marks, no ids of -1, nothing unbounded.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any

import gguf

from convert.sources.json_file import LIMIT_BYTES, read_json
from convert.tokens.vocabulary import (
    ADDED_SCORE,
    COPY,
    USER_DEFINED,
    Json,
    Token,
    Vocabulary,
    added_token,
    check_text,
    from_sentencepiece,
    from_tokenizer_json,
)
from fwlocal.errors import BadCheckpoint

CODE_LLAMA_ROWS, CODE_LLAMA_EOT = 32016, 32010
NO_BOS_ROWS = 49152  # Granite's and SmolLM's vocabulary: trained without BOS
TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True)
class TokenizerFiles:
    """The parsed JSON files of ``folder``; one that is not there is empty."""

    folder: Path
    tokenizer: Json
    tokenizer_config: Json
    config: Json
    added_tokens: Json

    @classmethod
    def read(cls, folder: Path) -> TokenizerFiles:
        """Read what is there. Raises BadCheckpoint for a file that is no JSON object."""
        return cls(
            folder,
            _read_object(folder / "tokenizer.json"),
            _read_object(folder / "tokenizer_config.json"),
            _read_object(folder / "config.json"),
            _read_object(folder / "added_tokens.json"),
        )


def read_tokenizer(
    folder: Path, vocab_size: int, n_embedding_rows: int
) -> dict[str, gguf.GGUFValue]:
    """The ``tokenizer.*`` keys for the checkpoint in ``folder``, in llama.cpp's order.

    ``vocab_size`` is config.json's, ``n_embedding_rows`` the embedding's; they must be equal. A
    vocabulary with fewer tokens is filled up. Raises BadCheckpoint.
    """
    if vocab_size != n_embedding_rows:
        raise BadCheckpoint(
            f"{folder / 'config.json'}: vocab_size is {vocab_size}, but the embedding has "
            f"{n_embedding_rows} rows; take config.json and weights from one repository"
        )
    try:
        files = TokenizerFiles.read(folder)
        vocabulary = _vocabulary(files, vocab_size)
        return _keys(files, vocabulary)
    except RecursionError:
        raise BadCheckpoint(f"{folder / 'tokenizer.json'}: nested too deeply; {COPY}") from None


def _read_object(path: Path) -> Json:
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path}: holds no JSON object; {COPY}")
    return value


def _vocabulary(files: TokenizerFiles, n_rows: int) -> Vocabulary:
    """tokenizer.model comes first: it holds the scores as they were trained."""
    model, tokenizer = files.folder / "tokenizer.model", files.folder / "tokenizer.json"
    if model.is_file():
        added = (*_added_tokens_json(files), *_added_tokens_decoder(files))
        return from_sentencepiece(model, added, n_rows)
    if tokenizer.is_file():
        added_by_id = dict((*_added_tokens(files), *_added_tokens_decoder(files)))
        return from_tokenizer_json(tokenizer, files.tokenizer, added_by_id, n_rows)
    raise BadCheckpoint(
        f"no tokenizer: tokenizer.model or tokenizer.json expected in {files.folder}; {COPY}"
    )


def _added_tokens_json(files: TokenizerFiles) -> Iterator[tuple[int, Token]]:
    """added_tokens.json: text -> id, whatever the text."""
    path = files.folder / "added_tokens.json"
    for text, number in files.added_tokens.items():
        yield _id(path, number), Token(text, ADDED_SCORE, USER_DEFINED)


def _added_tokens_decoder(files: TokenizerFiles) -> Iterator[tuple[int, Token]]:
    """tokenizer_config.json's added_tokens_decoder: id, as a string, -> what it is."""
    path = files.folder / "tokenizer_config.json"
    decoder = files.tokenizer_config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise BadCheckpoint(f"{path}: added_tokens_decoder is no object; {COPY}")
    for number, entry in decoder.items():
        is_number = number.isascii() and number.isdigit() and len(number) < 10
        yield _id(path, int(number) if is_number else number), _entry(path, entry)


def _added_tokens(files: TokenizerFiles) -> Iterator[tuple[int, Token]]:
    """tokenizer.json's added_tokens."""
    path = files.folder / "tokenizer.json"
    entries = files.tokenizer.get("added_tokens") or []
    if not isinstance(entries, list):
        raise BadCheckpoint(f"{path}: added_tokens is no list; {COPY}")
    for entry in entries:
        token = _entry(path, entry)
        yield _id(path, entry.get("id")), token


def _entry(path: Path, entry: Any) -> Token:
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        raise BadCheckpoint(f"{path}: the added token {short(entry)} has no content; {COPY}")
    return added_token(entry["content"], special=bool(entry.get("special")))


def _id(path: Path, number: Any) -> int:
    if type(number) is not int or number < 0:
        raise BadCheckpoint(f"{path}: {short(number)} is no id of an added token; {COPY}")
    return number


def _keys(files: TokenizerFiles, vocabulary: Vocabulary) -> dict[str, gguf.GGUFValue]:
    writer = gguf.GGUFWriter(path=None, arch="llama")
    space_prefix = _space_prefix(files, vocabulary)
    if space_prefix is not None:
        writer.add_add_space_prefix(space_prefix)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list([token.text.encode() for token in vocabulary.tokens])
    if vocabulary.model == "llama":
        writer.add_token_scores([token.score for token in vocabulary.tokens])
    writer.add_token_types([token.type for token in vocabulary.tokens])
    keys = _tokenizer_keys(writer) | _special_keys(files, vocabulary)
    n_rows = len(vocabulary.tokens)
    if n_rows == CODE_LLAMA_ROWS:
        keys |= _special_keys(files, vocabulary, {"eot": CODE_LLAMA_EOT})
    if n_rows == NO_BOS_ROWS:
        keys[gguf.Keys.Tokenizer.ADD_BOS] = gguf.GGUFValue(False, gguf.GGUFValueType.BOOL)
    return keys


def _space_prefix(files: TokenizerFiles, vocabulary: Vocabulary) -> bool | None:
    value = files.tokenizer_config.get("add_prefix_space")
    if value is None:
        return vocabulary.space_prefix
    if not isinstance(value, bool):
        path = files.folder / "tokenizer_config.json"
        raise BadCheckpoint(
            f"{path}: add_prefix_space is {short(value)}, not true or false; {COPY}"
        )
    return value


def _special_keys(
    files: TokenizerFiles, vocabulary: Vocabulary, defaults: Mapping[str, int] | None = None
) -> dict[str, gguf.GGUFValue]:
    """Merges, special tokens, flags and chat template; with ``defaults`` only those tokens."""
    writer = gguf.GGUFWriter(path=None, arch="llama")
    try:
        with tempfile.TemporaryDirectory() as view:
            _show(files, Path(view))
            special = gguf.SpecialVocab(
                view,
                load_merges=vocabulary.model == "gpt2" and defaults is None,
                special_token_types=None if defaults is None else tuple(defaults),
                n_vocab=len(vocabulary.tokens),
            )
        for kind, number in (defaults or {}).items():
            special.special_token_ids.setdefault(kind, number)
        special.add_to_gguf(writer, quiet=True)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise BadCheckpoint(
            f"{files.folder}: the special tokens or the chat template in tokenizer.json, "
            f"tokenizer_config.json or chat_template.json make no sense ({error!r}); {COPY}"
        ) from error
    keys = _tokenizer_keys(writer)
    path = files.folder / "tokenizer_config.json"
    for value in keys.values():
        if value.type == gguf.GGUFValueType.STRING:
            if not isinstance(value.value, str):
                raise BadCheckpoint(
                    f"{path}: a chat template is {short(value.value)}, no text; {COPY}"
                )
            check_text(path, value.value)
    names = keys.get(gguf.Keys.Tokenizer.CHAT_TEMPLATES)
    if names is not None:
        names.value = sorted(names.value)  # out of a set: another order in every process
    return keys


def _tokenizer_keys(writer: gguf.GGUFWriter) -> dict[str, gguf.GGUFValue]:
    """What ``writer`` was given, without the architecture that it adds itself."""
    return {k: value for k, value in writer.kv_data[0].items() if k.startswith("tokenizer.")}


def _show(files: TokenizerFiles, view: Path) -> None:
    """Put into ``view`` the files that gguf.SpecialVocab reads, with what it reads of them."""
    if files.tokenizer:
        model = files.tokenizer.get("model")
        merges = model.get("merges") if isinstance(model, dict) else None
        kept = ("normalizer", "added_tokens", "post_processor")
        shown = {key: files.tokenizer[key] for key in kept if key in files.tokenizer}
        _write_json(view / "tokenizer.json", {**shown, "model": {"merges": merges}})
    if files.tokenizer_config:
        _write_json(view / "tokenizer_config.json", files.tokenizer_config)
    ids = {key: value for key, value in files.config.items() if key.endswith("_token_id")}
    # -1 stands for "none" in many a config.json; SpecialVocab takes it for an error.
    known = {key: value for key, value in ids.items() if type(value) is int and value >= 0}
    _write_json(view / "config.json", known)
    _show_templates(files.folder, view)


def _show_templates(folder: Path, view: Path) -> None:
    names = [Path("chat_template.jinja")]
    (view / TEMPLATES).mkdir()
    names += sorted(path.relative_to(folder) for path in (folder / TEMPLATES).glob("*.jinja"))
    for name in names:
        if (folder / name).is_file():
            (view / name).write_bytes(_read_text(folder / name).encode())
    if template := _read_object(folder / "chat_template.json"):
        _write_json(view / "chat_template.json", template)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
        if len(data) > LIMIT_BYTES:
            raise ValueError(f"over {LIMIT_BYTES >> 20} MB")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise BadCheckpoint(
            f"{path}: cannot be read ({error.strerror or error}); {COPY}"
        ) from error
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadCheckpoint(f"{path}: no text ({error}); {COPY}") from None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
