"""A GGUF as a source, for more levels of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from convert.model import Model, ModelTensor
from convert.recipes import ModelShape
from convert.sources.checkpoint import Shards
from convert.sources.tensors import BLOCKS, FLOATS, SourceTensor
from convert.sources.weight_file import PlainSource, WeightFile
from fwlocal.errors import BadCheckpoint, UsageError
from fwlocal.gguf import GGUFHeader, read_header

ARCHITECTURES = ("llama",)
# They tell of the file, not the model.
NOT_COPIED = ("split.", "general.alignment", "fwlocal.tensor.")
NO_WEIGHTS = ("Q8_1", "Q8_K")  # ggml's own intermediates; it cannot widen them


class GGUFFile(PlainSource):
    """One open file, whose header was read and checked."""

    def __init__(self, header: GGUFHeader) -> None:
        tensors = {
            info.name: SourceTensor(
                info.name,
                info.type_name,
                info.shape[::-1],
                header.path,
                header.data_offset + info.offset,
            )
            for info in header.tensors
        }
        super().__init__(WeightFile(header.path), tensors)


def open_gguf(path: Path, *, allow_requantize: bool) -> Model:
    """The model in a GGUF.

    Raises BadModelFile for a damaged one, BadCheckpoint for what cannot be converted, UsageError
    for one that is quantized already, unless that is allowed.
    """
    header = read_header(path)
    _check_supported(header)
    for tensor in header.tensors:
        if tensor.type_name not in FLOATS and not allow_requantize:
            raise UsageError(
                f"{path}: {tensor.name} is quantized already ({tensor.type_name}), and quantizing "
                "again loses more; name an F32, F16 or BF16 file, or use --allow-requantize"
            )
    keys = _key_values(path)
    source = Shards([GGUFFile(header)])
    tensors = tuple(
        ModelTensor(tensor.name, tensor.shape, tensor.dtype, tensor.name)
        for tensor in source.tensors.values()
    )
    heads = header.number("{arch}.attention.head_count") or 1
    shape = ModelShape(
        header.number("{arch}.block_count") or 0,
        heads,
        header.number("{arch}.attention.head_count_kv") or heads,
    )
    return Model(keys, tensors, shape, source)


def _check_supported(header: GGUFHeader) -> None:
    path = header.path
    if header.architecture not in ARCHITECTURES:
        raise BadCheckpoint(
            f"{path}: the architecture {header.architecture!r} is not supported; "
            f"{', '.join(ARCHITECTURES)} is"
        )
    if header.number("{arch}.expert_count"):
        raise BadCheckpoint(f"{path}: a mixture of experts, which is not supported")
    if (header.number("split.count") or 1) > 1:
        raise BadCheckpoint(
            f"{path}: one file of a split model; join them first with llama-gguf-split --merge"
        )
    quantized = (name for name, (block, _) in BLOCKS.items() if block > 1)
    known = {*FLOATS, *quantized} - {*NO_WEIGHTS}
    for tensor in header.tensors:
        if tensor.type_name not in known:
            raise BadCheckpoint(f"{path}: {tensor.name} is of type {tensor.type_name}, no weights")


def _key_values(path: Path) -> dict[str, Any]:
    """All keys with their types, by gguf's own reader: the header is known to be sound.

    It knows no type of an empty array, and its writer writes none: they are left out.
    """
    try:
        fields = gguf.GGUFReader(path).fields.items()
        return {
            key: _value(field)
            for key, field in fields
            if not key.startswith(("GGUF.", *NOT_COPIED)) and field.data
        }
    except (ValueError, KeyError) as error:  # a text in an array that is not UTF-8, for one
        reason = " ".join(str(error).split())
        raise BadCheckpoint(
            f"{path}: its keys cannot be copied ({reason}); convert the original checkpoint instead"
        ) from None


def _value(field: Any) -> Any:
    array = field.types[0] == gguf.GGUFValueType.ARRAY
    return gguf.GGUFValue(field.contents(), field.types[0], field.types[-1] if array else None)
