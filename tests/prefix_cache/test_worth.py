"""What is kept and read, by the seconds it saves."""

from __future__ import annotations

import pytest

from fwlocal.prefix_cache import LEAST_TOKENS, worth_keeping, worth_loading

MB = 1_000_000


@pytest.mark.parametrize(
    ("n_tokens", "state_bytes", "prefill_s", "expected"),
    [
        (1500, 35 * MB, 3.0, True),  # 135M on two cores
        (1500, 786 * MB, 40.0, True),  # 7B with keys for all heads, on a CPU
        (1500, 786 * MB, 0.4, False),  # the same on a fast GPU
        (LEAST_TOKENS, 6 * MB, 0.5, True),
        (LEAST_TOKENS - 1, 6 * MB, 0.5, False),
        (4000, 1 * MB, 0.1, False),  # in a moment
    ],
)
def test_worth_keeping(
    n_tokens: int, state_bytes: int, prefill_s: float, *, expected: bool
) -> None:
    assert worth_keeping(n_tokens, state_bytes, prefill_s) is expected


def test_worth_loading() -> None:
    assert worth_loading(3.0, 1000 * MB)
    assert not worth_loading(1.0, 1000 * MB)
    assert not worth_loading(0.0, 1)
