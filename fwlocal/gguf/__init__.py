"""GGUF files: what their headers say, and reading them without believing them."""

from fwlocal.gguf.header import (
    DEFAULT_ALIGNMENT,
    GGML_TYPES,
    GGUFArray,
    GGUFHeader,
    Scalar,
    TensorInfo,
    Value,
)
from fwlocal.gguf.reader import MAGIC, MAX_NAME_BYTES, MoreNeeded, header_of, read_header

__all__ = [
    "DEFAULT_ALIGNMENT",
    "GGML_TYPES",
    "MAGIC",
    "MAX_NAME_BYTES",
    "GGUFArray",
    "GGUFHeader",
    "MoreNeeded",
    "Scalar",
    "TensorInfo",
    "Value",
    "header_of",
    "read_header",
]
