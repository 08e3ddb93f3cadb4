"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fwlocal.errors import UsageError
from fwlocal.sizes import GIB, MIB, MOST_BYTES, gib, parse_size, parse_sizes


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("24G", 24 * GIB),
        ("24GB", 24 * GIB),
        ("24GiB", 24 * GIB),
        ("24g", 24 * GIB),
        (" 24 gb ", 24 * GIB),
        ("512M", 512 * MIB),
        ("2048K", 2 * MIB),
        ("1.5G", 3 * GIB // 2),
        (".5G", GIB // 2),
        ("2T", 2048 * GIB),
        ("25769803776", 24 * GIB),
        ("25769803776B", 24 * GIB),
    ],
)
def test_a_card_sold_as_24_gb_has_24_gib(text: str, size_bytes: int) -> None:
    assert parse_size(text, "--ram") == size_bytes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5 bananas", "--ram '5 bananas': is not a size, as in 24G"),
        ("", "is not a size"),
        ("G", "is not a size"),
        ("-1G", "is not a size"),
        ("nan", "is not a size"),
        ("infG", "is not a size"),
        ("1e9", "is not a size"),
        ("1_000G", "is not a size"),
        ("٣G", "is not a size"),
        ("24GG", "is not a size"),
        ("24iB", "is not a size"),
        ("24Gi B", "is not a size"),
        ("0", "more than nothing"),
        ("0G", "more than nothing"),
        ("0.0000000001G", "is not a size"),
        ("24", "--ram '24': is less than 1M; did you mean 24G?"),
        ("3K", "--ram '3K': is less than 1M"),
        ("9999T", "more than any machine has"),
        ("9" * 400 + "G", "is not a size"),
    ],
)
def test_what_is_not_a_size_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text, "--ram")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_a_size_only_where_it_makes_sense() -> None:
    assert parse_size("0", "--gpu-margin", may_be_zero=True) == 0
    with pytest.raises(UsageError):
        parse_size("0", "--ram")


def test_several() -> None:
    assert parse_sizes("24G, 12G", "--gpu-memory") == (24 * GIB, 12 * GIB)
    assert parse_sizes("2x24G, 12G", "--gpu-memory") == (24 * GIB, 24 * GIB, 12 * GIB)
    assert parse_sizes("2 X 24 GB", "--gpu-memory") == (24 * GIB, 24 * GIB)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("24G,", "--gpu-memory '24G,': is not a size, as in 24G"),
        ("24G,5 bananas", "--gpu-memory '24G,5 bananas': is not a size"),
        ("24G,12", "--gpu-memory '24G,12': is less than 1M; did you mean 12G?"),
        ("2x", "--gpu-memory '2x': is not a size"),
        ("0x24G", "is not a size"),
        ("2x2x24G", "is not a size"),
        ("x24G", "is not a size"),
        ("99x24G", "names 99 sizes; 64 are the most"),
    ],
)
def test_a_list_is_refused_as_it_was_written(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_sizes(text, "--gpu-memory")
    assert says in str(caught.value)


@given(st.integers(MIB, MOST_BYTES))
def test_plain_bytes_are_themselves(size_bytes: int) -> None:
    assert parse_size(str(size_bytes), "--ram") == size_bytes


@given(st.integers(1, 4096), st.sampled_from(["M", "G"]), st.sampled_from(["", "B", "iB", "b"]))
def test_a_number_with_a_unit(number: int, unit: str, suffix: str) -> None:
    expected = number * {"M": MIB, "G": GIB}[unit]
    assert parse_size(f"{number}{unit}{suffix}", "--ram") == expected


@given(st.text(max_size=20))
@example("1" * 20)
@example("24\u212a")
def test_any_text_is_a_size_or_a_user_error(text: str) -> None:
    try:
        size_bytes = parse_size(text, "--ram")
    except UsageError:
        return
    assert MIB <= size_bytes <= MOST_BYTES


def test_sizes_for_people() -> None:
    assert gib(24 * GIB) == "24.0 GiB"
    assert gib(0.9999 * GIB) == "1.0 GiB"
    assert gib(512 * MIB) == "512 MiB"
    assert gib(0.9999 * MIB) == "1 MiB"
    assert gib(3000) == "3 KiB"
    assert gib(0) == "0 MiB"
