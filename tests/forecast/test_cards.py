"""Bandwidths by name and by size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.forecast.cards import DATA_SHEETS, GB, MACS, TYPICAL, of_name, of_size, of_unified
from fwlocal.sizes import GIB


@pytest.mark.parametrize(
    ("description", "gb_per_s"),
    [
        ("NVIDIA GeForce RTX 4090", 1008),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 672),
        ("NVIDIA GeForce RTX 3080 Ti", 912),
        ("NVIDIA A100-SXM4-80GB", 2039),
        ("NVIDIA A100 80GB PCIe", 1935),
        ("NVIDIA A100-PCIE-40GB", 1555),
        ("NVIDIA H100 80GB HBM3", 3350),
        ("NVIDIA H100 PCIe", 2000),
        ("NVIDIA H200", 4800),
        ("NVIDIA L40S", 864),
        ("NVIDIA L4", 300),
        ("NVIDIA RTX A6000", 768),
        ("NVIDIA RTX 6000 Ada Generation", 960),
        ("Apple M2 Ultra", 800),
        ("Apple M1", 68),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 960),
    ],
)
def test_a_card_is_known_by_its_name(description: str, gb_per_s: int) -> None:
    speed = of_name(description)
    assert speed is not None
    assert speed.bytes_per_s == gb_per_s * GB
    assert speed.known_by.startswith("data sheet of ")


@pytest.mark.parametrize(
    "description", ["", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce GTX 970", "RTX 40900"]
)
def test_others_are_not(description: str) -> None:
    assert of_name(description) is None


@pytest.mark.parametrize(
    ("gib", "card"),
    [(1, "4060"), (8, "4060"), (24, "4090"), (24.1, "5090"), (80, "A100"), (999, "H200")],
)
def test_a_size_stands_for_a_common_card(gib: float, card: str) -> None:
    speed = of_size(int(gib * GIB))
    assert card in speed.known_by
    assert speed.known_by.startswith("taken for a")


@pytest.mark.parametrize(
    ("gib", "gb_per_s", "chip"),
    [(8, 68, "an M1"), (16, 100, "an M2"), (64, 273, "an M4 Pro"), (999, 819, "an M3 Ultra")],
)
def test_a_memory_stands_for_a_mac(gib: int, gb_per_s: int, chip: str) -> None:
    speed = of_unified(gib * GIB)
    assert speed.bytes_per_s == gb_per_s * GB
    assert speed.known_by == f"assumed: {chip}, by Apple's data sheet"


@given(st.integers(1, 2**50))
def test_every_size_has_a_speed(size_bytes: int) -> None:
    for speed in (of_size(size_bytes), of_unified(size_bytes)):
        assert 10 * GB < speed.bytes_per_s < 10_000 * GB


@pytest.mark.parametrize("table", [TYPICAL, MACS])
def test_the_common_cards_are_in_the_table(table: tuple[tuple[int, str], ...]) -> None:
    assert all(card in DATA_SHEETS for _, card in table)
    assert list(table) == sorted(table)
