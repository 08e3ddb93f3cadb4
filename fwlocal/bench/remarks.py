"""What is worth knowing of those who take part before anything is measured, a line each. Pure."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from fwlocal.bench.entrants import made_of
from fwlocal.bench.measured import Entrant
from fwlocal.gguf import GGUFHeader
from fwlocal.inspection import bits_per_weight
from fwlocal.levels import UNQUANTIZED, level_in

# Their blocks are of 256 weights; rows of another length get types of 32 (tensor_type_fallback in
# llama.cpp's llama-quant.cpp).
_IN_BLOCKS_OF_256 = re.compile(r"I?Q\d_K.*|IQ[123]_.*|IQ4_XS|TQ\d_0")
_BLOCK = 256
MUCH = 0.25  # of the weights: less hardly changes what a level is


def why_reference(chosen: Entrant, entrants: Sequence[Entrant]) -> str:
    """Which is the reference where none was named, and why."""
    others = [entrant for entrant in entrants if entrant is not chosen]
    name = chosen.file.path.name
    made = [entrant.label for entrant in others if name in made_of(entrant.header)]
    if made and len(made) == len(others):
        why = (
            "which the others were made from" if len(made) > 1 else f"which {made[0]} is made from"
        )
    elif made:
        why = f"which {', '.join(made)} {'were' if len(made) > 1 else 'was'} made from"
    elif any(entrant.is_derived for entrant in others) and not chosen.is_derived:
        why = "the most bits per weight of those not made from a quantized file"
    else:
        why = "the most bits per weight"
    return f"reference: {chosen.label}, {why}"


def same_bytes(hashes: Mapping[str, str]) -> str:
    """Which levels are copies, by their labels' SHA-256; "" where none is."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label, sha256 in hashes.items():
        groups[sha256].append(label)
    alike = [" and ".join(labels) for labels in groups.values() if len(labels) > 1]
    return f"{'; '.join(alike)} are the same bytes" if alike else ""


def fallen_back(entrants: Sequence[Entrant]) -> str:
    """Which levels are in good part of other types than their name says; "" where none is."""
    found = [
        f"{entrant.label} ({bits_per_weight(entrant.header):.1f} bits per weight)"
        for entrant in entrants
        if _IN_BLOCKS_OF_256.fullmatch(_level(entrant)) and share_outside(entrant.header) > MUCH
    ]
    if not found:
        return ""
    its = "they are" if len(found) > 1 else "it is"
    return (
        f"much of {', '.join(found)} is in other types than the name says: rows of this model do "
        f"not fit blocks of {_BLOCK}; {its} larger than such levels of other models"
    )


def share_outside(header: GGUFHeader) -> float:
    """Of the weights of quantized matrices, those whose rows do not fit blocks of 256."""
    matrices = [
        tensor
        for tensor in header.tensors
        if len(tensor.shape) > 1 and tensor.type_name not in UNQUANTIZED
    ]
    total = sum(math.prod(tensor.shape) for tensor in matrices)
    outside = sum(math.prod(t.shape) for t in matrices if t.shape[0] % _BLOCK)
    return outside / total if total else 0.0


def _level(entrant: Entrant) -> str:
    return entrant.file.level or level_in(entrant.file.path.name) or ""
