"""How many digits a figure is shown with."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.bench.figures import (
    alone,
    beside,
    change,
    counted,
    figure,
    percent,
    perplexity,
    seconds,
)

any_float = st.floats()


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (0.002134, 0.000042, "0.00213 ± 0.00004"),
        (16.0312, 0.0934, "16.03 ± 0.09"),
        (16.0312, 0.096, "16.03 ± 0.10"),  # two digits where the first is a 1
        (0.002134, 0.000123, "0.00213 ± 0.00012"),
        (1234.6, 12.3, "1235 ± 12"),
        (60.2, None, "60.20"),
        (60.2, 0.0, "60.20"),
        (60.2, math.nan, "60.20"),
        (0.0, 0.0, "0"),
        (0.0, None, "0"),
        (16.03, None, "16.03"),
        (12345.6, None, "12346"),
        (math.nan, 0.1, "nan"),
        (math.inf, None, "inf"),
        (1e-12, 3e-13, "1e-12 ± 3e-13"),
        (3e20, 1.0, "3e+20 ± 1"),
    ],
)
def test_digits_follow_the_standard_error(value: float, se: float | None, text: str) -> None:
    assert figure(value, se) == text


def test_a_share_in_percent() -> None:
    assert percent(0.97123, 0.0021) == "97.1 ± 0.2"
    assert percent(1.0) == "100.0"


def test_a_difference_has_a_sign_and_its_interval() -> None:
    assert change(0.00123, 0.0008, 0.0016) == "+0.00123 (+0.00080 to +0.00160)"
    assert change(-3.21, -4.5, -2.1) == "-3.2 (-4.5 to -2.1)"
    assert change(-0.00001, -0.02, 0.02) == "+0.000 (-0.020 to +0.020)"
    assert change(5.0, 5.0, 5.0) == "+5.0 (+5.0 to +5.0)"


def test_a_perplexity_may_be_more_than_a_number_holds() -> None:
    assert perplexity(16.0312, 0.0934) == "16.03 ± 0.09"
    assert perplexity(math.exp(700), math.inf) == perplexity(math.inf) == "> 1e304"


def test_a_figure_without_its_error_keeps_its_digits() -> None:
    assert alone(16.0312, 0.0934) == "16.03"
    assert alone(16.0312, 0.0) == "16.03"


def test_one_thing_and_many() -> None:
    assert [counted(n, "chunk") for n in (0, 1, 4096)] == ["0 chunks", "1 chunk", "4,096 chunks"]


def test_seconds_have_three_digits() -> None:
    assert [seconds(value) for value in (0.416, 12.34, 123.4)] == ["0.42 s", "12.3 s", "123 s"]


@given(st.floats(-1e8, 1e8), st.floats(1e-6, 1e8))
def test_what_is_shown_is_right_to_a_digit_of_the_error(value: float, se: float) -> None:
    shown, _, error = figure(value, se).partition(" ± ")
    assert abs(float(shown) - value) <= se
    assert se / 2 <= float(error) <= 2 * se
    assert abs(float(beside(value, se)) - value) <= se / 10
    assert Decimal(shown).as_tuple().exponent == Decimal(error).as_tuple().exponent


@given(any_float, st.none() | any_float, any_float, any_float)
def test_any_number_has_a_short_text(
    value: float, se: float | None, low: float, high: float
) -> None:
    assert len(figure(value, se)) <= 26
    assert len(percent(value, se)) <= 26
    assert change(value, low, high)
    assert beside(value, low)
