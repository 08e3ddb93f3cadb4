"""Quantization levels by name: what a file's name says, and how large a level will be."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Bits per weight of the levels from which one is chosen when none is asked for, the best first, as
# llama-quantize makes them of Llama 2 70B; smaller models are a few per cent larger.
LADDER = {
    "Q8_0": 8.5,
    "Q6_K": 6.56,
    "Q5_K_M": 5.66,
    "Q4_K_M": 4.82,
    "Q3_K_M": 3.86,
    "Q2_K": 2.96,
}
UNQUANTIZED = ("F32", "BF16", "F16")

_LEVEL = re.compile(
    r"(?<![A-Z0-9])(?:(?:UD[-_])?I?Q[1-8](?:_[A-Z0-9]{1,3}){0,3}|TQ[12]_0|MXFP4|(?:BF|FP?)(?:16|32))"
    r"(?![A-Z0-9])",
    re.IGNORECASE,
)
_SPELLINGS = {"FP16": "F16", "FP32": "F32"}


def level_in(file_name: str) -> str | None:
    """The level that a GGUF's name tells, as ``Q4_K_M`` of ``Llama-3-8B.q4_k_m.gguf``."""
    found = [match.group().upper() for match in _LEVEL.finditer(file_name)]
    return _SPELLINGS.get(found[-1], found[-1]) if found else None


def estimated_sizes(n_params: float) -> Mapping[str, int]:
    """Bytes of each level of the ladder for a model of ``n_params`` weights, about."""
    return {level: round(n_params * bits / 8) for level, bits in LADDER.items()}


def best_that_fits(sizes: Mapping[str, int], free_bytes: int) -> str | None:
    """The largest level that leaves room for the context in ``free_bytes`` of memory; unquantized
    ones only where there are no others. None when not even the smallest fits."""
    quantized = {k: v for k, v in sizes.items() if k not in UNQUANTIZED} or dict(sizes)
    fitting = {k: v for k, v in quantized.items() if needed_bytes(v) <= free_bytes}
    return max(fitting, key=lambda level: fitting[level], default=None)


def needed_bytes(size_bytes: int) -> int:
    """Memory for a model of that size with its context and buffers, about."""
    return round(size_bytes * 1.05) + (1 << 29)
