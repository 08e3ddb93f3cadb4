"""Of a prompt, what another has evaluated is reused in whole tiles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fwlocal.parallel.prefix import EDGE, batches, is_tiled, reusable

N_BATCH = 512


def prompt(n_same: int, n_own: int, own: int) -> list[int]:
    return [1] * n_same + [own] * n_own


def test_a_common_beginning_is_reused_up_to_an_edge() -> None:
    assert reusable(prompt(203, 20, 2), prompt(203, 80, 3), N_BATCH) == 200
    assert reusable(prompt(20, 9, 2), prompt(20, 17, 3), N_BATCH) == 16


def test_some_is_left_to_be_computed_as_the_whole_would_be() -> None:
    assert reusable(prompt(200, 5, 2), prompt(200, 5, 3), N_BATCH) == 136  # 69 are left, in tiles
    assert reusable(prompt(40, 1, 2), prompt(40, 1, 3), N_BATCH) == 32


def test_what_was_computed_in_tiles_is_nothing_for_a_short_prompt() -> None:
    assert reusable(prompt(40, 60, 2), prompt(40, 9, 3), N_BATCH) == 0
    assert reusable(prompt(40, 9, 2), prompt(40, 60, 3), N_BATCH) == 0


def test_behind_whole_batches_the_rest_may_be_short() -> None:
    assert reusable(prompt(512, 9, 2), prompt(512, 9, 3), N_BATCH) == 512
    assert reusable(prompt(512, 9, 2), prompt(512, 90, 3), N_BATCH) == 512


def test_the_same_prompt_again_is_evaluated_in_part() -> None:
    assert 0 < reusable(prompt(200, 0, 0), prompt(200, 0, 0), N_BATCH) < 200


counts = st.integers(0, 1500)


@given(counts, counts, st.integers(1, 1500), st.sampled_from([64, 128, 512]))
def test_every_row_is_computed_as_it_would_be_alone(
    n_same: int, n_other: int, n_own: int, n_batch: int
) -> None:
    """What is evaluated, and what was, is of as many rows as it would be, as far as that counts."""
    asked, cached = prompt(n_same, n_own, 3), prompt(n_same, n_other, 2)
    reused = reusable(cached, asked, n_batch)

    assert reused % EDGE == 0
    assert reused <= n_same
    theirs = {start: end - start for start, end in batches(0, len(cached), n_batch)}
    for start, end in batches(0, reused, n_batch):
        assert is_tiled(theirs[start]) == is_tiled(min(n_batch, len(asked) - start)), (start, end)
    alone = {end: end - start for start, end in batches(0, len(asked), n_batch)}
    pieces = list(batches(reused, len(asked), n_batch))
    assert pieces[0][0] == reused
    assert pieces[-1][1] == len(asked)
    for start, end in pieces:
        assert is_tiled(end - start) == is_tiled(alone[end])
        assert (end - start >= 8) == (alone[end] >= 8)


@given(st.integers(1, 3000), st.integers(1, 600))
def test_batches_cover_a_prompt(n_tokens: int, n_batch: int) -> None:
    pieces = list(batches(0, n_tokens, n_batch))

    assert [start for start, _ in pieces] == list(range(0, n_tokens, n_batch))
    assert sum(end - start for start, end in pieces) == n_tokens
