"""A draft model says its own likeliest tokens, follows the answer, and knows when to be silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal import llama
from fwlocal.draft import DraftModel
from fwlocal.errors import DoesNotFit, UsageError
from fwlocal.kv_cache import KVCache
from tests import tiny_mamba
from tests.draft.machine import PairAtWork
from tests.tiny_llama import vocabulary

N_VOCAB = len(vocabulary())


def test_the_draft_model_says_what_its_table_says(at_work: PairAtWork) -> None:
    at_work.drafter.prepare([50, 51, 52])

    drafted = at_work.drafter.propose([50, 51, 52, 60], 5)

    table = at_work.pair.draft_table
    assert list(drafted) == [table[token] for token in [60, *drafted[:-1]]]
    assert len(drafted) == 5


def test_the_draft_model_follows_another_prompt(at_work: PairAtWork) -> None:
    table = at_work.pair.draft_table
    for prompt in ([50, 51, 52], [50, 51, 90, 91], [50, 51]):
        at_work.drafter.prepare(prompt)
        assert at_work.drafter.propose(prompt, 2)[0] == table[prompt[-1]]


def test_the_draft_model_is_silent_where_it_is_unsure(at_work: PairAtWork) -> None:
    drafter = at_work.drafter
    sure = DraftModel(at_work.cache, N_VOCAB, least_probability=1.1)
    sure.prepare([50, 51])

    assert sure.propose([50, 51], 5) == []
    drafter.prepare([50, 51])


def test_the_draft_model_knows_no_padding_of_the_larger_one(at_work: PairAtWork) -> None:
    at_work.drafter.prepare([50, 51])

    assert at_work.drafter.propose([50, 51, 100_000], 5) == ()


def test_the_draft_model_says_no_padding_of_its_own(at_work: PairAtWork) -> None:
    """A token that the larger model does not have would end it."""
    table = at_work.pair.draft_table
    first = next(token for token in range(50, 200) if table[token] > token)
    of_fewer = DraftModel(at_work.cache, table[first])
    of_fewer.prepare([50, first])

    assert of_fewer.propose([50, first], 5) == []
    assert at_work.drafter.propose([50, first], 1) == [table[first]]


def test_the_draft_model_stops_where_its_context_ends(at_work: PairAtWork) -> None:
    limit = at_work.cache.limit
    tokens = [50 + n % 100 for n in range(limit - 70)]
    at_work.drafter.prepare(tokens)
    longer = [*tokens, *[60] * 68]

    assert len(at_work.drafter.propose(longer, 5)) == 2
    assert at_work.drafter.propose([*longer, 60, 60], 5) == ()
    at_work.drafter.prepare([*longer, 60, 60])
    assert at_work.drafter.propose([*longer, 60, 60, 60], 5) == ()


def test_a_draft_model_without_memory_is_silent(at_work: PairAtWork) -> None:
    def refuses(now: int, wanted: int) -> None:
        if now:
            raise DoesNotFit("no")

    model = llama.Model(at_work.pair.draft, llama.LoadOptions())
    cache = KVCache(model, llama.ContextOptions(n_ctx=0, n_threads=1), lambda: False, refuses)
    drafter = DraftModel(cache, model.n_vocab)
    n_ctx = cache.n_ctx
    prompt = [50 + n % 100 for n in range(n_ctx - 2)]
    drafter.prepare(prompt)

    assert drafter.propose([*prompt, 60, 61, 62, 63], 5) == ()
    assert drafter.propose([*prompt, 60, 61, 62, 63, 64], 5) == ()
    drafter.close()
    model.close()


def test_a_draft_that_cannot_take_tokens_back_is_refused(tmp_path: Path) -> None:
    path = tiny_mamba.write_gguf(tmp_path / "mamba.gguf")
    model = llama.Model(path, llama.LoadOptions())
    cache = KVCache(model, llama.ContextOptions(n_ctx=512, n_threads=1), lambda: False)

    with pytest.raises(UsageError, match="cannot take tokens back"):
        DraftModel(cache, model.n_vocab)

    cache.close()
    model.close()
