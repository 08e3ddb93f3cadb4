"""The lanes are as large as the longest prompt and answer need."""

from __future__ import annotations

import pytest

from fwlocal.engine import ANSWER_ROOM
from fwlocal.errors import PromptTooLong
from fwlocal.parallel.size import Need, check_fits, pool_size


def test_the_longest_decides() -> None:
    size = pool_size([Need(30, 100), Need(400, 50), Need(10, 10)], 2, 8192)

    assert (size.n_lanes, size.n_ctx) == (2, 512)  # in steps of 256
    assert size.total_n_ctx == 1024


def test_an_answer_without_a_bound_gets_room() -> None:
    assert pool_size([Need(256, None)], 1, 8192).n_ctx == 256 + ANSWER_ROOM


def test_no_lane_is_larger_than_the_context_may_be() -> None:
    assert pool_size([Need(300, 9000)], 1, 512).n_ctx == 512


def test_no_more_lanes_than_prompts() -> None:
    assert pool_size([Need(5, 5)] * 3, 8, 512).n_lanes == 3


def test_a_kept_prefix_takes_a_lane() -> None:
    size = pool_size([Need(200, 5)] * 3, 2, 512, keeps_prefix=True)

    assert size.all_lanes == 3
    assert pool_size([Need(200, 5)], 2, 512, keeps_prefix=True).all_lanes == 1


def test_a_prompt_that_fills_the_context_is_refused_with_both_counts() -> None:
    check_fits(511, 512)
    with pytest.raises(PromptTooLong, match="has 512 tokens and the context holds 512"):
        check_fits(512, 512)
