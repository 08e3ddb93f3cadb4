"""Whether a well-formed GGUF holds values that llama.cpp can run.

llama.cpp answers most nonsense with an error, but some with a failed assertion or a segmentation
fault that ends the process. Each check here stands for such a case, found by altering every key
and tensor of a small model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from fwlocal.errors import BadModelFile
from fwlocal.gguf import GGUFArray, GGUFHeader

MAX_LAYERS, MAX_EXPERTS = 512, 512  # llama.cpp's LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS
NO_WEIGHTS = {"F64", "I8", "I16", "I64", "Q8_1", "Q8_K"}  # ggml multiplies with none of them
_BYTE_TOKEN = re.compile(rb"\x06\0{7}<0x[0-9A-F]{2}>")  # as a GGUF string: its length first


def check_sound(header: GGUFHeader) -> None:
    """Raise BadModelFile, naming key or tensor, for values that would crash llama.cpp."""
    for check in CHECKS:
        for wrong in check(header):
            raise BadModelFile(
                f"{header.path}: unusable model: {wrong}; fetch or convert the file again"
            )


def _architecture(header: GGUFHeader) -> Iterator[str]:
    vocabulary = header.text("tokenizer.ggml.model")
    if not header.architecture:
        yield "general.architecture is missing"
    elif "bert" in header.architecture or vocabulary == "bert":
        yield "it computes embeddings and cannot answer"
    elif vocabulary in (None, "none", "no_vocab"):
        yield "it has no vocabulary"


def _layers(header: GGUFHeader) -> Iterator[str]:
    n_layer = header.number("{arch}.block_count")
    if n_layer is not None and not 1 <= n_layer <= MAX_LAYERS:
        yield f"{header.architecture}.block_count is {n_layer}, not 1 to {MAX_LAYERS}"


def _epsilon(header: GGUFHeader) -> Iterator[str]:
    for key, value in header.metadata.items():
        if key.endswith("_epsilon") and not _is_positive(value):
            yield f"{key} is {value}, not a small positive number"


def _is_positive(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value >= 0


def _experts(header: GGUFHeader) -> Iterator[str]:
    n_expert = header.number("{arch}.expert_count") or 0
    n_used = header.number("{arch}.expert_used_count") or 0
    if n_expert > MAX_EXPERTS or n_used > n_expert or bool(n_expert) != bool(n_used):
        yield f"{header.architecture}: {n_used} of {n_expert} experts are used"


def _byte_tokens(header: GGUFHeader) -> Iterator[str]:
    """A SentencePiece vocabulary falls back to bytes for what it cannot spell."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if header.text("tokenizer.ggml.model") == "llama" and isinstance(tokens, GGUFArray):
        found = len(set(_BYTE_TOKEN.findall(tokens.data)))
        if found < 256:
            yield f"tokenizer.ggml.tokens has {found} of the 256 byte tokens"


def _tensor_types(header: GGUFHeader) -> Iterator[str]:
    for tensor in header.tensors:
        if tensor.type_name in NO_WEIGHTS:
            yield f"{tensor.name} is of type {tensor.type_name}, which holds no weights"
        if tensor.name.endswith("_norm.weight") and tensor.type_name != "F32":
            yield f"{tensor.name} is of type {tensor.type_name}, not F32"


CHECKS: tuple[Callable[[GGUFHeader], Iterator[str]], ...] = (
    _architecture,
    _layers,
    _epsilon,
    _experts,
    _byte_tokens,
    _tensor_types,
)
