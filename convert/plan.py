"""What will be written, decided before anything is: files, tensors, types, offsets.

Pure: a model, levels and names go in, ``PlannedFile``s come out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from convert.model import KeyValues, Model, ModelTensor
from convert.recipes import Level, llama_cpp_order, needs_imatrix, tensor_types
from convert.sources.tensors import row_bytes
from fwlocal.errors import UsageError
from fwlocal.gguf import DEFAULT_ALIGNMENT
from fwlocal.splits import part_name

QUANTIZATION_VERSION = 2  # ggml's GGML_QNT_VERSION


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of one file: ``offset`` from the start of the file's data section."""

    tensor: ModelTensor
    type_name: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class PlannedFile:
    """One GGUF to be written; ``keys`` lack only the hashes."""

    path: Path
    level: Level
    keys: KeyValues
    tensors: tuple[PlannedTensor, ...]

    @property
    def data_bytes(self) -> int:
        """Bytes of the data section, the padding after the last tensor included."""
        last = self.tensors[-1]
        return _padded(last.offset + last.size_bytes)


@dataclass(frozen=True)
class PlannedLevel:
    """One level of the model: a file, or the files of a split one."""

    level: Level
    files: tuple[PlannedFile, ...]

    @property
    def tensors(self) -> tuple[PlannedTensor, ...]:
        """All its tensors, in llama.cpp's order."""
        return tuple(tensor for file in self.files for tensor in file.tensors)

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """As llama-quantize counts them: over all tensors."""
        elements = sum(math.prod(tensor.tensor.shape) for tensor in self.tensors)
        return 8 * self.size_bytes / elements


def plan_levels(
    model: Model,
    levels: Sequence[Level],
    folder: Path,
    name: str,
    *,
    split_bytes: int = 0,
    importance: Mapping[str, Any] | None = None,
) -> tuple[PlannedLevel, ...]:
    """The files of each level, as ``folder/name-LEVEL.gguf``.

    ``split_bytes`` > 0 starts a new file before it would be exceeded; ``importance`` holds the
    tensors of an importance matrix. Raises UsageError for a level that needs one it does not get.
    """
    return tuple(
        _plan_level(model, level, folder / f"{name}-{level.name}.gguf", split_bytes, importance)
        for level in levels
    )


def _plan_level(
    model: Model,
    level: Level,
    path: Path,
    split_bytes: int,
    importance: Mapping[str, Any] | None,
) -> PlannedLevel:
    by_name = {tensor.name: tensor for tensor in model.tensors}
    shapes = [(tensor.name, tensor.shape) for tensor in model.tensors]
    types = tensor_types(level, shapes, model.shape, has_imatrix=importance is not None)
    _check_importance(level, types, importance)
    order = [by_name[name] for name in llama_cpp_order(by_name)]
    groups = list(_groups(order, types, split_bytes))
    keys = {
        **model.keys,
        "general.quantization_version": _u32(QUANTIZATION_VERSION),
        "general.file_type": _u32(level.file_type),
    }
    files = []
    for index, group in enumerate(groups):
        own = keys if len(groups) == 1 else _split_keys(keys, index, len(groups), len(order))
        files.append(PlannedFile(_split_path(path, index, len(groups)), level, own, group))
    return PlannedLevel(level, tuple(files))


def _check_importance(
    level: Level, types: Mapping[str, str], importance: Mapping[str, Any] | None
) -> None:
    needy = needs_imatrix(types)
    if needy and importance is None:
        raise UsageError(
            f"{level.name} needs an importance matrix ({len(needy)} tensors, such as {needy[0]}); "
            "make one with `fwlocal imatrix` and name it with --imatrix FILE"
        )
    missing = [name for name in needy if importance is not None and name not in importance]
    if missing:
        raise UsageError(
            f"{level.name}: the importance matrix has nothing for {missing[0]}; make it from this "
            "model"
        )


def _groups(
    tensors: Sequence[ModelTensor], types: Mapping[str, str], split_bytes: int
) -> Iterator[tuple[PlannedTensor, ...]]:
    """The tensors of each file; a file holds one at least."""
    group: list[PlannedTensor] = []
    end = 0
    for tensor in tensors:
        n_rows, n_per_row = math.prod(tensor.shape[:-1]), tensor.shape[-1]
        size = n_rows * row_bytes(types[tensor.name], n_per_row)
        if group and split_bytes and end + _padded(size) > split_bytes:
            yield tuple(group)
            group, end = [], 0
        group.append(PlannedTensor(tensor, types[tensor.name], end, size))
        end += _padded(size)
    yield tuple(group)


def _split_keys(keys: KeyValues, index: int, count: int, n_tensors: int) -> KeyValues:
    """gguf-split's keys; only the first file carries the model's own."""
    u16, i32 = gguf.GGUFValueType.UINT16, gguf.GGUFValueType.INT32
    return {
        **(keys if index == 0 else {"general.architecture": keys["general.architecture"]}),
        "split.no": gguf.GGUFValue(index, u16),
        "split.count": gguf.GGUFValue(count, u16),
        "split.tensors.count": gguf.GGUFValue(n_tensors, i32),
    }


def _split_path(path: Path, index: int, count: int) -> Path:
    return path if count == 1 else path.with_name(part_name(path.stem, index + 1, count))


def _u32(value: int) -> Any:
    return gguf.GGUFValue(value, gguf.GGUFValueType.UINT32)


def _padded(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
