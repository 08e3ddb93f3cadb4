"""How fast a GPU's memory is, by its name or its size: decoding is bound by it.

Figures are those of the makers' public data sheets, in GB/s (10^9 bytes). Laptop variants are left
out: they are slower than cards of the same name by what only the laptop's maker knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fwlocal.sizes import GIB

GB = 10**9

# The words of a name, as they stand in llama.cpp's device descriptions; the longest match counts.
DATA_SHEETS: Mapping[str, int] = {
    "RTX 3060": 360,
    "RTX 3060 Ti": 448,
    "RTX 3070": 448,
    "RTX 3070 Ti": 608,
    "RTX 3080": 760,
    "RTX 3080 Ti": 912,
    "RTX 3090": 936,
    "RTX 3090 Ti": 1008,
    "RTX 4060": 272,
    "RTX 4060 Ti": 288,
    "RTX 4070": 504,
    "RTX 4070 SUPER": 504,
    "RTX 4070 Ti": 504,
    "RTX 4070 Ti SUPER": 672,
    "RTX 4080": 717,
    "RTX 4080 SUPER": 736,
    "RTX 4090": 1008,
    "RTX 5070": 672,
    "RTX 5070 Ti": 896,
    "RTX 5080": 960,
    "RTX 5090": 1792,
    "RTX A4000": 448,
    "RTX A5000": 768,
    "RTX A6000": 768,
    "RTX 6000 Ada": 960,
    "RTX PRO 6000": 1792,
    "Tesla T4": 320,
    "V100": 900,
    "A10": 600,
    "A10G": 600,
    "A30": 933,
    "A40": 696,
    "A100": 1555,
    "A100 80GB PCIe": 1935,
    "A100 SXM4 80GB": 2039,
    "L4": 300,
    "L40": 864,
    "L40S": 864,
    "H100": 2000,
    "H100 PCIe": 2000,
    "H100 80GB HBM3": 3350,
    "H200": 4800,
    "M1": 68,
    "M1 Pro": 200,
    "M1 Max": 400,
    "M1 Ultra": 800,
    "M2": 100,
    "M2 Pro": 200,
    "M2 Max": 400,
    "M2 Ultra": 800,
    "M3": 100,
    "M3 Pro": 150,
    "M3 Max": 300,
    "M3 Ultra": 819,
    "M4": 120,
    "M4 Pro": 273,
    "M4 Max": 410,
    "RX 7900 XT": 800,
    "RX 7900 XTX": 960,
    "MI300X": 5300,
    "Arc A770": 560,
}

# For a GPU of which only the size is known: GiB and a card of that size, the smallest first.
TYPICAL: tuple[tuple[int, str], ...] = (
    (8, "RTX 4060"),
    (12, "RTX 4070"),
    (16, "RTX 4080"),
    (24, "RTX 4090"),
    (32, "RTX 5090"),
    (40, "A100"),
    (48, "RTX A6000"),
    (80, "A100 80GB PCIe"),
    (96, "RTX PRO 6000"),
    (141, "H200"),
)

# For a Mac of which only the memory is known: up to so many GiB, and the chip that is sold with it
# and is the slower where there are several.
MACS: tuple[tuple[int, str], ...] = (
    (8, "M1"),
    (24, "M2"),
    (32, "M4"),
    (36, "M3 Pro"),
    (64, "M4 Pro"),
    (128, "M4 Max"),
    (192, "M2 Ultra"),
    (512, "M3 Ultra"),
)


@dataclass(frozen=True)
class Speed:
    """Bytes that a device reads of its memory in a second, and how that is known, in words."""

    bytes_per_s: float
    known_by: str


def of_name(description: str) -> Speed | None:
    """By a device's description, such as "NVIDIA GeForce RTX 4090"; None for an unknown one."""
    words = f" {_words(description)} "
    if " laptop " in words or " max q " in words:
        return None
    found = [name for name in DATA_SHEETS if f" {_words(name)} " in words]
    if not found:
        return None
    name = max(found, key=len)
    return Speed(DATA_SHEETS[name] * GB, f"data sheet of {name}")


def of_size(size_bytes: int) -> Speed:
    """By a GPU's memory alone: that of a common card which has as much."""
    card = _smallest(TYPICAL, size_bytes)
    return Speed(DATA_SHEETS[card] * GB, f"taken for {_article(card)} {card}")


def of_unified(size_bytes: int) -> Speed:
    """By a Mac's memory alone: that of a chip which is sold with as much."""
    chip = _smallest(MACS, size_bytes)
    return Speed(DATA_SHEETS[chip] * GB, f"assumed: {_article(chip)} {chip}, by Apple's data sheet")


def _smallest(table: tuple[tuple[int, str], ...], size_bytes: int) -> str:
    """The first that has as much, else the last."""
    return next((name for size, name in table if size * GIB >= size_bytes), table[-1][1])


def _article(name: str) -> str:
    return "an" if name[0] in "AHRLM" else "a"


def _words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.casefold()))
