"""The text, its chunks as llama-perplexity cuts them, and which tokenizers are one."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal import llama
from fwlocal.bench.measured import Entrant
from fwlocal.bench.text import (
    SHIPPED,
    bos_of,
    check_same_tokenizer,
    chunks_of,
    first_scored,
    read_text,
    tokenizer_hash,
    tokens_of,
)
from fwlocal.errors import UsageError
from fwlocal.gguf import read_header
from fwlocal.store import ModelFile
from tests import tiny_llama


def entrant(path: Path) -> Entrant:
    return Entrant(path.stem, ModelFile(path.stem, path), read_header(path))


def test_the_shipped_text_is_read_where_none_is_named() -> None:
    text = read_text(None)
    assert text.name == "moby-dick.txt"
    assert text.sha256 == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert text.text.startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael.")


def test_a_text_is_its_bytes_but_for_one_newline_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffÄ\r\nb \n\n".encode())
    assert read_text(path).text == "\ufeffÄ\r\nb \n"


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "has no text"), (b" \n\n", "has no text"), (b"caf\xe9", "byte 3 is not UTF-8")],
)
def test_what_is_no_text_is_refused_in_a_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"some.txt: {said}.*; --text takes") as caught:
        read_text(path)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_missing_file_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; --text takes a"):
        read_text(tmp_path)
    with pytest.raises(UsageError, match=r"none.txt: cannot be read: .*; --text takes"):
        read_text(tmp_path / "none.txt")


@given(st.integers(8, 700), st.integers(4, 64), st.one_of(st.none(), st.just(-7)))
def test_chunks_are_the_text_cut_with_bos_over_the_first_token(
    n_tokens: int, n_ctx: int, bos: int | None
) -> None:
    tokens = list(range(n_tokens))
    if n_tokens < n_ctx:
        with pytest.raises(UsageError):
            chunks_of(tokens, n_ctx, bos)
        return
    chunks = chunks_of(tokens, n_ctx, bos)
    assert len(chunks) == n_tokens // n_ctx
    for number, chunk in enumerate(chunks):
        whole = tokens[number * n_ctx :][:n_ctx]
        assert list(chunk) == (whole if bos is None else [bos, *whole[1:]])


def test_a_text_shorter_than_a_chunk_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"has 300 tokens.* takes 512; .*--text.*--n-ctx"):
        chunks_of(list(range(300)), 512, None)


def test_the_second_half_is_scored_as_llama_perplexity_does() -> None:
    assert [first_scored(n_ctx) for n_ctx in (512, 511, 4096)] == [256, 255, 2048]


def test_tokens_have_bos_in_front_and_no_control_tokens(tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("the whale </s>", encoding="utf-8")
    options = llama.LoadOptions(vocab_only=True)
    with contextlib.closing(llama.Model(tiny_gguf, options)) as model:
        tokens = tokens_of(model, read_text(path))
        assert tokens[0] == bos_of(model) == tiny_llama.BOS
        assert tiny_llama.BOS not in tokens[1:]
        assert tiny_llama.EOS not in tokens
        model.adds_bos = False
        assert tokens_of(model, read_text(path)) == tokens[1:]
        assert bos_of(model) is None


def test_levels_of_one_model_have_one_tokenizer(tmp_path: Path) -> None:
    a = entrant(tiny_llama.write_gguf(tmp_path / "a.gguf", seed=0, template="{{ 1 }}"))
    b = entrant(tiny_llama.write_gguf(tmp_path / "b.gguf", seed=1))
    assert tokenizer_hash(a.header) == tokenizer_hash(b.header)
    check_same_tokenizer(a, b)


def test_another_vocabulary_is_refused_with_both_hashes(tmp_path: Path) -> None:
    a = entrant(tiny_llama.write_gguf(tmp_path / "a.gguf"))
    more = tiny_llama.Shape(vocab_size=tiny_llama.Shape().vocab_size + 1)
    b = entrant(tiny_llama.write_gguf(tmp_path / "b.gguf", more, extra_tokens=(("x", 0.0, 1),)))
    with pytest.raises(UsageError, match=r"tokens has 274 entries, not 273;") as said:
        check_same_tokenizer(a, b)
    assert str(said.value).startswith("b: ")
    for one in (a, b):
        assert tokenizer_hash(one.header)[:12] in str(said.value)


def test_the_first_token_that_differs_is_named(tmp_path: Path) -> None:
    def with_last(word: str) -> Entrant:
        shape = tiny_llama.Shape(vocab_size=tiny_llama.Shape().vocab_size + 1)
        path = tmp_path / f"{word}.gguf"
        return entrant(tiny_llama.write_gguf(path, shape, extra_tokens=((word, 0.0, 1),)))

    with pytest.raises(UsageError, match=r"tokenizer.ggml.tokens\[273\] is 'b', not 'a';"):
        check_same_tokenizer(with_last("a"), with_last("b"))
