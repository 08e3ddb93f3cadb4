"""The shape of a Llama: the few numbers that decide how large its tensors are."""

from __future__ import annotations

from dataclasses import dataclass

# The most that each may be: llama.cpp's LLAMA_MAX_LAYERS, and more than any Llama has.
_MOST = {
    "n_layer": 512,
    "n_embd": 1 << 20,
    "n_ff": 1 << 22,
    "n_head": 1 << 16,
    "n_head_kv": 1 << 16,
    "n_vocab": 1 << 24,
    "head_dim": 1 << 16,
}


@dataclass(frozen=True)
class LlamaShape:
    """The numbers of a Llama that decide how large its tensors are; ``head_dim`` 0 divides
    ``n_embd`` among the heads, ``tied`` has the token embeddings serve as the output too."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    n_vocab: int
    head_dim: int = 0
    tied: bool = False

    @property
    def n_per_head(self) -> int:
        """The width of one head."""
        return self.head_dim or self.n_embd // self.n_head

    def problem(self) -> str:
        """What no Llama has, in words; "" for a shape that can be."""
        for key, most in _MOST.items():
            value, least = getattr(self, key), int(key != "head_dim")
            if not least <= value <= most:
                return f"{key} must be {least} to {most}, not {value}"
        if self.n_head % self.n_head_kv or (self.n_embd % self.n_head and not self.head_dim):
            return "n_head must divide n_embd, and n_head_kv n_head"
        return ""
