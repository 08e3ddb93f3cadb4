"""Levels in names, and the one that fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.levels import best_that_fits, estimated_sizes, level_in, needed_bytes

GB = 10**9


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("stablebeluga2-70B.Q4_K_M.gguf", "Q4_K_M"),
        ("Llama-3.2-1B-Instruct-IQ3_XXS.gguf", "IQ3_XXS"),
        ("qwen2.5-0.5b-instruct-q8_0-00001-of-00002.gguf", "Q8_0"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
        ("model-fp16.gguf", "F16"),
        ("model.BF16.gguf", "BF16"),
        ("a-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("IQ1_S/big-TQ1_0.gguf", "TQ1_0"),
        ("plain.gguf", None),
        ("llama-16.gguf", None),
        ("faq4you.gguf", None),
    ],
)
def test_the_level_in_a_name(name: str, level: str | None) -> None:
    assert level_in(name) == level


def test_the_largest_that_leaves_room() -> None:
    sizes = {"Q2_K": 3 * GB, "Q4_K_M": 4 * GB, "Q8_0": 7 * GB, "F16": 13 * GB}
    assert best_that_fits(sizes, 8 * GB) == "Q8_0"
    assert best_that_fits(sizes, 7 * GB) == "Q4_K_M"
    assert best_that_fits(sizes, 100 * GB) == "Q8_0"  # F16 is no better to a reader
    assert best_that_fits(sizes, 2 * GB) is None
    assert best_that_fits({"F16": GB}, 2 * GB) == "F16"


@given(
    st.dictionaries(st.sampled_from(["Q2_K", "Q4_0", "Q8_0"]), st.integers(1, 10**12), min_size=1),
    st.integers(0, 10**12),
)
def test_what_is_chosen_fits_and_nothing_larger_does(sizes: dict[str, int], free: int) -> None:
    best = best_that_fits(sizes, free)
    fitting = [size for size in sizes.values() if needed_bytes(size) <= free]
    assert (best is None) == (not fitting)
    if best is not None:
        assert sizes[best] == max(fitting)


def test_the_sizes_are_about_those_of_published_files() -> None:
    sizes = estimated_sizes(6.74e9)  # Llama 2 7B
    published = {"Q2_K": 2.83, "Q3_K_M": 3.3, "Q4_K_M": 4.08, "Q5_K_M": 4.78, "Q6_K": 5.53}
    for level, size_gb in {**published, "Q8_0": 7.16}.items():
        assert sizes[level] == pytest.approx(size_gb * GB, rel=0.13)
