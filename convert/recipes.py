"""Which ggml type each tensor gets at each quantization level, as llama.cpp decides it.

A pure function of names, shapes and a few numbers of the model: no weights are seen. The rules are
those of ``src/llama-quant.cpp`` (``tensor_allows_quantization``, ``llama_tensor_get_type_impl``,
``tensor_type_fallback``) as of llama-cpp-python 0.3.36, for dense models of the Llama architecture;
its branches for experts and for other architectures are not here.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fwlocal.errors import UsageError
from fwlocal.gguf import GGML_TYPES

_BLOCK = {name: block for name, block, _ in GGML_TYPES.values()}
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Level:
    """One quantization level: what users name, and what a GGUF calls ``general.file_type``."""

    name: str
    file_type: int  # LLAMA_FTYPE_* in llama.h
    default_type: str  # the ggml type of the tensors that no rule singles out
    description: str


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a model that the choice of types depends on."""

    n_layer: int
    n_head: int
    n_head_kv: int

    @property
    def n_gqa(self) -> int:
        """Query heads that share one key and value head."""
        return self.n_head // self.n_head_kv

    @property
    def is_70b(self) -> bool:
        """Whether llama.cpp takes it for a Llama 2 70B."""
        return self.n_layer == 80 and self.n_head != self.n_head_kv


# Both numbers are of Llama 3 8B: bits per weight by the rules below, and by how much perplexity
# rises, which llama-quantize's help says for some levels.
LEVELS: Mapping[str, Level] = {
    level.name: level
    for level in (
        Level("Q2_K", 10, "Q2_K", "3.2 bits/weight, perplexity +3.52"),
        Level("Q3_K_S", 11, "Q3_K", "3.6 bits/weight, perplexity +1.63"),
        Level("Q3_K_M", 12, "Q3_K", "4.0 bits/weight, perplexity +0.66"),
        Level("Q3_K_L", 13, "Q3_K", "4.3 bits/weight, perplexity +0.56"),
        Level("Q4_0", 2, "Q4_0", "4.6 bits/weight, perplexity +0.47"),
        Level("Q4_1", 3, "Q4_1", "5.1 bits/weight, perplexity +0.45"),
        Level("Q4_K_S", 14, "Q4_K", "4.7 bits/weight, perplexity +0.27"),
        Level("Q4_K_M", 15, "Q4_K", "4.9 bits/weight, perplexity +0.18; a good balance"),
        Level("Q5_0", 8, "Q5_0", "5.6 bits/weight, perplexity +0.13"),
        Level("Q5_1", 9, "Q5_1", "6.0 bits/weight, perplexity +0.11"),
        Level("Q5_K_S", 16, "Q5_K", "5.6 bits/weight, perplexity +0.10"),
        Level("Q5_K_M", 17, "Q5_K", "5.7 bits/weight, perplexity +0.06"),
        Level("Q6_K", 18, "Q6_K", "6.6 bits/weight, perplexity +0.02"),
        Level("Q8_0", 7, "Q8_0", "8.5 bits/weight, perplexity +0.003"),
        Level("IQ4_NL", 25, "IQ4_NL", "4.7 bits/weight, non-linear"),
        Level("IQ4_XS", 30, "IQ4_XS", "4.5 bits/weight, non-linear"),
        Level("IQ3_XXS", 23, "IQ3_XXS", "3.3 bits/weight; needs an importance matrix"),
        Level("IQ3_XS", 22, "IQ3_S", "3.5 bits/weight; needs an importance matrix"),
        Level("IQ3_S", 26, "IQ3_S", "3.7 bits/weight"),
        Level("IQ3_M", 27, "IQ3_S", "3.8 bits/weight, a mix"),
        Level("IQ2_XXS", 19, "IQ2_XXS", "2.4 bits/weight; needs an importance matrix"),
        Level("IQ2_XS", 20, "IQ2_XS", "2.6 bits/weight; needs an importance matrix"),
        Level("IQ2_S", 28, "IQ2_XS", "2.7 bits/weight; needs an importance matrix"),
        Level("IQ2_M", 29, "IQ2_S", "2.9 bits/weight; needs an importance matrix"),
        Level("F16", 1, "F16", "16.0 bits/weight, half precision"),
        Level("BF16", 32, "BF16", "16.0 bits/weight, half precision with float32's range"),
        Level("F32", 0, "F32", "32.0 bits/weight, full precision"),
    )
}

# llama-quantize's own aliases among them.
_SPELLINGS = {
    "FP16": "F16",
    "FP32": "F32",
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
}


def level_named(text: str) -> Level:
    """The level that a user calls ``text``, in any case; "fp16" and "Q4_K" are understood.

    Raises UsageError, naming the nearest level and all others, for anything else.
    """
    name = text.strip().upper()
    name = _SPELLINGS.get(name, name)
    if name in LEVELS:
        return LEVELS[name]
    near = difflib.get_close_matches(name, LEVELS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"no quantization level is called {text!r}; {hint}known: {', '.join(LEVELS)}")


@dataclass(frozen=True)
class _Place:
    """All that the rules look at besides the level and the tensor's kind."""

    layer: int
    model: ModelShape
    has_imatrix: bool

    @property
    def in_first_8th(self) -> bool:
        return self.layer < self.model.n_layer // 8

    @property
    def in_last_8th(self) -> bool:
        return self.layer >= 7 * self.model.n_layer // 8

    @property
    def is_third(self) -> bool:
        """Every third layer after the first eighth."""
        return (self.layer - self.model.n_layer // 8) % 3 == 2


_WHERE: Mapping[str, Callable[[_Place], bool]] = {
    "everywhere": lambda at: True,
    "4 heads share": lambda at: at.model.n_gqa >= 4,  # it is small then: more bits cost little
    "first 2": lambda at: at.layer < 2,
    "first 4": lambda at: at.layer < 4,
    "first 16th": lambda at: at.layer < at.model.n_layer // 16,
    "first 8th": lambda at: at.in_first_8th,
    "first 8th, no imatrix": lambda at: at.in_first_8th and not at.has_imatrix,
    "first 8th, imatrix": lambda at: at.in_first_8th and at.has_imatrix,
    "no imatrix": lambda at: not at.has_imatrix,
    "ends and thirds": lambda at: at.in_first_8th or at.in_last_8th or at.is_third,
    "middle": lambda at: not at.in_first_8th and not at.in_last_8th,
}

_Rule = tuple[str, str, str]  # levels, where, ggml type

_QUERY_KEY: tuple[_Rule, ...] = (
    ("IQ3_XS", "everywhere", "IQ3_XXS"),
    ("IQ3_XXS", "everywhere", "IQ2_S"),
)
_GATE_UP: tuple[_Rule, ...] = (("IQ3_XS", "middle", "IQ3_XXS"),)

# By kind of tensor; the first rule that matches counts, the level's default type if none does.
_RULES: Mapping[str, tuple[_Rule, ...]] = {
    "token_embd": (
        ("IQ2_XXS IQ2_XS", "everywhere", "Q2_K"),
        ("IQ2_S IQ2_M IQ3_XXS", "everywhere", "IQ3_S"),
    ),
    "attn_q": _QUERY_KEY,
    "attn_k": _QUERY_KEY,
    "attn_v": (
        ("IQ2_XXS IQ2_XS IQ2_S IQ2_M Q2_K IQ3_XXS IQ3_XS IQ3_S", "4 heads share", "Q4_K"),
        ("IQ4_NL IQ4_XS", "4 heads share", "Q5_K"),
        ("IQ2_XXS IQ2_XS", "everywhere", "Q2_K"),
        ("IQ2_S IQ2_M", "everywhere", "IQ3_S"),
        ("Q2_K", "everywhere", "Q3_K"),
        ("IQ3_XXS", "no imatrix", "IQ3_S"),
        ("Q3_K_M", "first 2", "Q5_K"),
        ("Q3_K_M IQ3_M", "everywhere", "Q4_K"),
        ("Q3_K_L", "everywhere", "Q5_K"),
        ("Q4_K_S", "first 4", "Q5_K"),
        ("Q4_K_M Q5_K_M", "ends and thirds", "Q6_K"),
    ),
    "attn_output": (
        ("IQ2_S IQ2_M IQ3_XXS", "everywhere", "IQ3_S"),
        ("Q2_K", "everywhere", "Q3_K"),
        ("Q3_K_M IQ3_M", "everywhere", "Q4_K"),
        ("Q3_K_L", "everywhere", "Q5_K"),
    ),
    "ffn_gate": _GATE_UP,
    "ffn_up": _GATE_UP,
    "ffn_down": (
        ("IQ2_XXS IQ2_XS", "first 8th", "Q2_K"),
        ("IQ2_S IQ2_M", "first 8th", "IQ3_S"),
        ("IQ3_XXS", "first 8th, no imatrix", "Q4_K"),
        ("IQ3_XXS", "no imatrix", "Q3_K"),
        ("IQ3_M", "first 8th", "Q4_K"),
        ("Q2_K", "everywhere", "Q3_K"),
        ("Q3_K_M", "first 16th", "Q5_K"),
        ("Q3_K_M", "everywhere", "Q4_K"),
        ("Q3_K_L", "everywhere", "Q5_K"),
        ("Q4_K_S", "first 8th", "Q5_K"),
        ("Q4_K_M Q5_K_M", "ends and thirds", "Q6_K"),
        ("IQ4_NL IQ4_XS", "first 8th, no imatrix", "Q5_K"),
        ("Q4_0", "first 8th, imatrix", "Q4_1"),
        ("Q5_0", "first 8th, imatrix", "Q5_1"),
    ),
}

_IQ2 = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
_V_OF_70B = {"Q3_K": "Q5_K", "Q4_K": "Q5_K"}

# For rows that are no multiple of 256: the type with blocks of 32 that comes nearest.
_SMALLER_BLOCKS = {
    **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

# What nothing but measured column weights makes usable (tensor_requires_imatrix).
_NEED_IMATRIX = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")


def tensor_types(
    level: Level | str,
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    shape: ModelShape,
    *,
    has_imatrix: bool = False,
) -> dict[str, str]:
    """The ggml type name of each of the model's tensors, by name, in the order given.

    ``tensors``: all of them, as (GGUF name, shape with the outermost dimension first), in any
    order: without an "output.weight" the token embeddings are the output too, and get its type.
    What is not quantized (vectors, norms, all that is no "weight") is F32.
    Raises UsageError for an unknown level.
    """
    level = level_named(level) if isinstance(level, str) else level
    head = "output.weight" if "output.weight" in dict(tensors) else "token_embd.weight"
    types = {}
    for name, dims in tensors:
        if not _is_quantized(name, dims):
            types[name] = "F32"
        elif _BLOCK[level.default_type] == 1:
            types[name] = level.default_type
        else:
            place = _Place(_layer(name), shape, has_imatrix)
            wanted = _head_type(level, dims[-1]) if name == head else _ruled(level, name, place)
            types[name] = _fitting(wanted, dims[-1])
    return types


def needs_imatrix(types: Mapping[str, str]) -> tuple[str, ...]:
    """The tensors of a level's ``types`` that cannot be quantized without an importance matrix.

    llama.cpp looks at the level too, but only for Q2_K_S, which is none of ``LEVELS``.
    """
    exempt = ("token_embd.weight", "output.weight")
    return tuple(n for n, kind in types.items() if kind in _NEED_IMATRIX and n not in exempt)


def llama_cpp_order(names: Iterable[str]) -> list[str]:
    """``names`` as llama.cpp sorts a model's tensors, and as llama-quantize writes them.

    Those of no layer first, then layer by layer, each by name (``weight_name_comparer``).
    """
    return sorted(names, key=lambda name: (_layer(name), name))


def _layer(name: str) -> int:
    """The layer's number, -1 outside the layers.

    llama.cpp counts the tensors of one kind in its own order instead; in a whole model that is
    the same number.
    """
    found = _LAYER.match(name)
    return int(found[1]) if found else -1


def _is_quantized(name: str, dims: tuple[int, ...]) -> bool:
    # ggml does not count leading dimensions of 1: a matrix of one row is a vector to it.
    is_matrix = math.prod(dims[:-1]) > 1
    return is_matrix and name.endswith("weight") and not name.endswith("_norm.weight")


def _head_type(level: Level, n_per_row: int) -> str:
    """The output's type: its errors go straight into the logits, so it gets more bits."""
    if n_per_row % _BLOCK[level.default_type] or level.default_type == "Q8_0":
        return "Q8_0"
    return "Q5_K" if level.name in (*_IQ2, "IQ3_XXS") else "Q6_K"


def _ruled(level: Level, name: str, place: _Place) -> str:
    kind = name.removesuffix(".weight").rpartition(".")[2]
    matching = (
        type_name
        for levels, where, type_name in _RULES.get(kind, ())
        if level.name in levels.split() and _WHERE[where](place)
    )
    chosen = next(matching, level.default_type)
    if kind == "attn_v" and place.model.is_70b and level.name not in _IQ2:
        return _V_OF_70B.get(chosen, chosen)
    return chosen


def _fitting(type_name: str, n_per_row: int) -> str:
    """The type itself, or one whose blocks fill rows of ``n_per_row`` elements (F16 at worst)."""
    for candidate in (type_name, _SMALLER_BLOCKS.get(type_name, type_name)):
        if n_per_row % _BLOCK[candidate] == 0:
            return candidate
    return "F16"
