"""How large a context is when nobody names a size."""

from __future__ import annotations

import pytest

from fwlocal.offload import default_n_ctx
from fwlocal.offload.context import rounded_n_ctx


@pytest.mark.parametrize(
    ("trained", "needed", "n_ctx"),
    [(8192, 0, 4096), (2048, 0, 2048), (8192, 5000, 5120), (8192, 9000, 8192), (0, 100, 4096)],
)
def test_default_n_ctx(trained: int, needed: int, n_ctx: int) -> None:
    assert default_n_ctx(trained, needed) == n_ctx


@pytest.mark.parametrize(("asked", "n_ctx"), [(1, 256), (256, 256), (257, 512), (4000, 4096)])
def test_contexts_are_rounded_as_llama_cpp_does(asked: int, n_ctx: int) -> None:
    assert rounded_n_ctx(asked) == n_ctx
