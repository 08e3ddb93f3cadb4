"""``fwlocal show``: what a GGUF's header says, without its tensor data."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fwlocal.gguf import GGUFArray, GGUFHeader, Value
from fwlocal.splits import parts_of
from fwlocal.terminal import inert

SHOWN_ITEMS, SHOWN_CHARACTERS, SHOWN_IN_ARRAYS = 6, 100, 24


def describe(header: GGUFHeader) -> dict[str, Any]:
    """The header as plain data, for ``--json``; long arrays by their length alone."""
    return {
        "path": str(header.path),
        "files": [str(path) for path in _files(header)],
        "size_bytes": header.file_size_bytes,
        "gguf_version": header.version,
        "bits_per_weight": round(bits_per_weight(header), 3),
        "types": _types(header),
        "metadata": {key: _plain(value) for key, value in header.metadata.items()},
        "tensors": [
            {
                "name": tensor.name,
                "type": tensor.type_name,
                "shape": list(tensor.shape),
                "size_bytes": tensor.size_bytes,
            }
            for tensor in header.tensors
        ],
    }


def _files(header: GGUFHeader) -> list[Path]:
    """The file, or all parts of a split one."""
    return parts_of(header.path) if header.number("split.count") else [header.path]


def bits_per_weight(header: GGUFHeader) -> float:
    """Over all tensors, as llama-quantize counts; 0 for a file without any."""
    elements = _n_weights(header)
    return 8 * header.weights_bytes / elements if elements else 0.0


def _n_weights(header: GGUFHeader) -> int:
    return sum(math.prod(tensor.shape) for tensor in header.tensors)


def _types(header: GGUFHeader) -> dict[str, dict[str, int]]:
    """For each type, how many tensors have it and their bytes; the largest share first."""
    counts = Counter(tensor.type_name for tensor in header.tensors)
    sizes: defaultdict[str, int] = defaultdict(int)
    for tensor in header.tensors:
        sizes[tensor.type_name] += tensor.size_bytes
    ordered = sorted(counts, key=lambda name: -sizes[name])
    return {name: {"tensors": counts[name], "size_bytes": sizes[name]} for name in ordered}


def _plain(value: Value) -> Any:
    if not isinstance(value, GGUFArray):
        return value
    if len(value) > 64 and value.element_type != "string":
        return f"{len(value)} x {value.element_type}"
    return f"{len(value)} strings" if len(value) > 4096 else list(value)


def in_words(header: GGUFHeader) -> dict[str, str]:
    """What matters most of it, by label, for people."""
    from rich import filesize

    size = filesize.decimal(header.file_size_bytes)
    split = f" in {len(files)} files" if len(files := _files(header)) > 1 else ""
    context = header.number("{arch}.context_length")
    return {
        "path": str(header.path),
        "size": f"{size}{split}, {bits_per_weight(header):.2f} bits per weight",
        "architecture": header.text("general.architecture") or "not known",
        "weights": f"{_counted(_n_weights(header))} in {len(header.tensors)} tensors",
        "context": f"{context} tokens" if context else "not known",
    }


def _counted(number: int) -> str:
    """``6.74 billion``, ``135 million``, ``512``."""
    for word, scale in (("billion", 1e9), ("million", 1e6)):
        if number >= scale:
            return f"{number / scale:.3g} {word}"
    return str(number)


def text(header: GGUFHeader, facts: Mapping[str, str], *, with_metadata: bool) -> str:
    """All of it for people, one fact a line, nothing in it able to drive a terminal: ``facts``, the
    types of tensors, and GGUF's own keys if they are asked for."""
    from rich import filesize

    label = max(map(len, facts), default=0)
    lines = [f"{name:{label}}  {_cut(fact, 300)}" for name, fact in facts.items()]
    lines += ["", "tensors by type"]
    lines += [
        f"  {name:8} {share['tensors']:5} tensors {filesize.decimal(share['size_bytes']):>10}"
        for name, share in _types(header).items()
    ]
    if with_metadata:
        width = max((len(key) for key in header.metadata), default=0)
        lines += ["", *(f"{key:{width}}  {_short(v)}" for key, v in header.metadata.items())]
    return "".join(f"{inert(line)}\n" for line in lines)


def tensor_lines(header: GGUFHeader) -> str:
    """Every tensor: type, size, shape as ggml counts it, name."""
    from rich import filesize

    lines = (
        f"{tensor.type_name:8} {filesize.decimal(tensor.size_bytes):>10}  "
        f"{' x '.join(map(str, tensor.shape)):>16}  {inert(tensor.name)}\n"
        for tensor in header.tensors
    )
    return "".join(lines)


def _short(value: Value) -> str:
    if isinstance(value, GGUFArray):
        shown = [item for item, _ in zip(value, range(SHOWN_ITEMS), strict=False)]
        more = f", ... ({len(value)} in all)" if len(value) > SHOWN_ITEMS else ""
        return f"[{', '.join(_cut(item, SHOWN_IN_ARRAYS) for item in shown)}{more}]"
    return _cut(value)


def _cut(value: object, limit: int = SHOWN_CHARACTERS) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    shown = repr(value)[1:-1] if isinstance(value, str) else str(value)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
