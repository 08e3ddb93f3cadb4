"""A pair of Llamas, a slow one and a fast one that agrees with it a given part of the time.

Each is a table: the likeliest next token is a function of the last one alone. Embeddings are unit
vectors, one direction for each token; every layer's attention output and FFN output are zero, so
that layers cost what they cost and change nothing; the output matrix has a peak, in the column of
each token, at the token that follows, a smaller one at another, and small random weights elsewhere,
so that draws by chance have something to choose from. What follows what is one cycle through all
tokens but the special ones. The draft has the same output matrix, but that in a part of the
columns, chosen at random along the cycle, the peak is at another token: so it is right in all the
others, which are ``agreement_percent`` of them. The target has more layers, of random weights: that
many times it is slower.

Weights are Q8_0, which llama.cpp computes to the same bits for several tokens at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.parallel.tiny_q8 import write_q8
from tests.tiny_llama import Array, Shape, checkpoint, vocabulary

N_SPECIAL = 3  # <unk>, BOS and EOS are never said
# Of output weights; logits are those times the square root of HIDDEN, 17. The likeliest token has
# six tenths of the probability, the second one two.
_PEAK, _SECOND, _NOISE = 0.47, 0.41, 0.07
HIDDEN = 288  # at least the vocabulary's size, in whole blocks of Q8_0


@dataclass(frozen=True)
class Pair:
    """Both files, and what each says after a token."""

    target: Path
    draft: Path
    target_table: tuple[int, ...]
    draft_table: tuple[int, ...]


def write_pair(
    folder: Path,
    *,
    agreement_percent: int = 60,
    n_target_layers: int = 24,
    n_draft_layers: int = 2,
    intermediate_size: int = 1152,
    seed: int = 0,
) -> Pair:
    """Both as GGUFs that llama.cpp loads."""
    n_vocab = len(vocabulary())
    random = np.random.default_rng(seed)
    cycle = random.permutation(np.arange(N_SPECIAL, n_vocab))
    table = np.full(n_vocab, cycle[0])
    table[cycle] = np.roll(cycle, -1)
    other = table.copy()
    wrong = random.choice(cycle, round((1 - agreement_percent / 100) * len(cycle)), replace=False)
    other[wrong] = cycle[(np.searchsorted(np.sort(cycle), table[wrong]) + 7) % len(cycle)]
    other[wrong] = np.where(other[wrong] == table[wrong], cycle[0], other[wrong])
    noise = random.normal(0, _NOISE, (n_vocab, HIDDEN)).astype(np.float32)
    files = []
    for name, layers, follows in (
        ("target", n_target_layers, table),
        ("draft", n_draft_layers, other),
    ):
        shape = Shape(
            hidden_size=HIDDEN,
            intermediate_size=intermediate_size,
            num_hidden_layers=layers,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=4096,
        )
        files.append(_write(folder / f"{name}.gguf", shape, _output(noise, follows), seed))
    tables = [tuple(int(token) for token in follows) for follows in (table, other)]
    return Pair(files[0], files[1], tables[0], tables[1])


def _output(noise: Array, follows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Array:
    """The output matrix: a row for each token that may be said, a column for the last one."""
    weights = noise.copy()
    columns = np.arange(len(follows))
    weights[(follows + 1) % len(follows), columns] = _SECOND
    weights[follows, columns] = _PEAK
    weights[:N_SPECIAL] = -_PEAK
    return weights


def _write(path: Path, shape: Shape, output: Array, seed: int) -> Path:
    tensors = checkpoint(shape, seed)
    embeddings = np.zeros((shape.vocab_size, HIDDEN), np.float32)
    np.fill_diagonal(embeddings, 1)
    tensors["model.embed_tokens.weight"], tensors["lm_head.weight"] = embeddings, output
    for name in tensors:
        if "o_proj" in name or "down_proj" in name:
            tensors[name] = np.zeros_like(tensors[name])
    return write_q8(path, shape, tensors)
