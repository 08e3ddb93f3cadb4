"""A model to be written: its GGUF keys and tensors, wherever the weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convert.recipes import ModelShape
from convert.sources.tensors import TensorSource

KeyValues = Mapping[str, Any]  # GGUF key -> gguf.GGUFValue


@dataclass(frozen=True)
class ModelTensor:
    """One tensor under its GGUF name, ``shape`` outermost first.

    ``n_head`` > 0: the rows of each head are regrouped (see ``convert.llama.permuted_rows``).
    ``values``: the bytes of a tensor that is computed rather than read.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    source_name: str
    n_head: int = 0
    values: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Model:
    """All that a GGUF of it will hold, but for the level."""

    keys: KeyValues
    tensors: tuple[ModelTensor, ...]
    shape: ModelShape
    source: TensorSource
