"""A base and a delta as one source: each tensor is their sum.

Added in the delta's own dtype, as the published script does (FastChat's apply_delta.py loads both
as float16 and adds them there): the base is first cast to it. float16 and bfloat16 sums are those
of IEEE 754, rounded to nearest even, computed in float32 as torch does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.sources.source_file import Bytes
from convert.sources.tensors import FLOATS, Extent, SourceTensor, TensorSource
from fwlocal.errors import BadCheckpoint

Floats = npt.NDArray[Any]
UNUSED = (".rotary_emb.inv_freq",)  # buffers, computed anew from the configuration

VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")  # as many rows as tokens


class DeltaSource:
    """``base`` + ``delta``; see ``convert.sources.tensors.TensorSource``."""

    def __init__(self, base: TensorSource, delta: TensorSource) -> None:
        """Takes both over. Raises BadCheckpoint, naming the tensor, where they do not match."""
        self._base, self._delta = base, delta
        try:
            _check_match(base, delta)
        except BaseException:
            self.close()
            raise
        self.tensors: Mapping[str, SourceTensor] = delta.tensors
        self.files = (*delta.files, *base.files)
        self.checksums = {**delta.checksums, **base.checksums}

    def read_rows(self, name: str, first: int, count: int) -> Bytes:
        """``count`` rows of the sum from ``first``, in the delta's dtype."""
        dtype = self._delta.tensors[name].dtype
        delta = self._delta.read_rows(name, first, count)
        if name not in self._base.tensors:
            return delta
        base = self._base.read_rows(name, first, count)
        return add(base, self._base.tensors[name].dtype, delta, dtype)

    def extents(self, name: str) -> tuple[Extent, ...]:
        """Where the tensor is, in the delta and in the base."""
        base = self._base.extents(name) if name in self._base.tensors else ()
        return (*self._delta.extents(name), *base)

    def expect(self, names: Sequence[str]) -> None:
        """These tensors will be read, in this order: of both, side by side."""
        self._delta.expect(names)
        self._base.expect([name for name in names if name in self._base.tensors])

    def has_room(self, name: str, end_row: int) -> bool:
        """Whether rows up to ``end_row`` may be read before all that was read is done."""
        in_base = name not in self._base.tensors or self._base.has_room(name, end_row)
        return in_base and self._delta.has_room(name, end_row)

    def done(self, name: str) -> None:
        """What was made of the tensor is safe."""
        self._delta.done(name)
        self._base.done(name)

    def close(self) -> None:
        """Give the files back."""
        self._base.close()
        self._delta.close()


def add(base: Bytes, base_dtype: str, delta: Bytes, dtype: str) -> Bytes:
    """base + delta, elementwise, in ``dtype``; the bytes of both and of the result are rows."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found later, named
        left = _from_f32(_to_f32(base, base_dtype), dtype) if base_dtype != dtype else base
        if dtype == "BF16":
            return _from_f32(_to_f32(left, dtype) + _to_f32(delta, dtype), dtype)
        numpy_dtype = {"F32": "<f4", "F16": "<f2"}[dtype]
        total: Floats = left.view(numpy_dtype) + delta.view(numpy_dtype)
    return total.view(np.uint8)


def _to_f32(data: Bytes, dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return data.view({"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def _from_f32(values: npt.NDArray[np.float32], dtype: str) -> Bytes:
    """Rounded to nearest even; NaN stays NaN."""
    if dtype == "F32":
        return values.view(np.uint8)
    if dtype == "F16":
        return values.astype("<f2").view(np.uint8)
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2").view(np.uint8)


def _check_match(base: TensorSource, delta: TensorSource) -> None:
    for name, tensor in delta.tensors.items():
        if name.endswith(UNUSED):
            continue
        other = base.tensors.get(name)
        if other is None:
            raise BadCheckpoint(
                f"{tensor.file}: {name} is in the delta but not in the base; name the base that "
                "this delta was made from"
            )
        if other.shape != tensor.shape:
            what = "vocabularies differ" if name in VOCABULARY else "shapes differ"
            raise BadCheckpoint(
                f"{tensor.file}: {name}: {what}: {list(tensor.shape)} in the delta, "
                f"{list(other.shape)} in the base ({other.file}); name the right base"
            )
        for one in (tensor, other):
            if one.dtype not in FLOATS:
                raise BadCheckpoint(
                    f"{one.file}: {name}: {one.dtype} cannot be added, {', '.join(FLOATS)} can; "
                    "name a checkpoint that is not quantized"
                )
    for name, tensor in base.tensors.items():
        if name not in delta.tensors and not name.endswith(UNUSED):
            raise BadCheckpoint(
                f"{tensor.file}: {name} is in the base but not in the delta; name the base that "
                "this delta was made from"
            )
