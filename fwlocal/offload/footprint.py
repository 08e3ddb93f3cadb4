"""What each layer of a model takes, from its header alone: weights and KV cache, to the byte.

Where llama.cpp puts which tensor: ``llama-model-loader.cpp`` (``create_tensor``): the token
embeddings and what else is looked up stay on the CPU, ``blk.N.*`` go with their layer, the rest
with the output, which counts as one layer more. A model without ``output.weight`` answers with its
token embeddings: they are then in memory twice once the output is offloaded.

Sliding-window layers are counted whole, since contexts are
made with ``swa_full``: a cache that forgets could not be cut back for the next turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from fwlocal.gguf import GGML_TYPES, GGUFHeader, TensorInfo
from fwlocal.offload.attention import head_sizes, heads_kv, heads_of, memories, n_unused

KV_BITS = {name: bytes_ * 8 / block for name, block, bytes_ in GGML_TYPES.values()}
_ALIGNMENT = 128  # of tensors in a buffer: CUDA's; others have less
_LAYER = re.compile(r"blk\.(\d+)\.")
# What is looked up; other tensors without a layer are the first layer's, or the output's.
_INPUT = re.compile(r"(token_embd|token_types|position_embd|per_layer_token_embd)\.")
_FIRST = re.compile(r"(token_embd_norm|per_layer_model_proj|per_layer_proj_norm|rope_)")
_EXPERTS = re.compile(r"_exps\.")


@dataclass(frozen=True)
class Layer:
    """One repeating layer: bytes of its weights, elements of keys and values for each token, and
    bytes of a state that does not grow (recurrent layers). ``expert_bytes`` are of the weights."""

    weights_bytes: int
    kv_elements: int
    state_bytes: int = 0
    expert_bytes: int = 0


@dataclass(frozen=True)
class Footprint:
    """A model as planning sees it. ``n_ff`` is the widest that is computed at once;
    ``head_sizes`` are those of keys and of values."""

    name: str
    layers: tuple[Layer, ...]
    input_bytes: int
    output_bytes: int
    is_tied: bool
    n_params: int
    n_embd: int
    n_embd_k: int
    head_sizes: tuple[int, int]
    n_ff: int
    n_head: int
    n_vocab: int
    n_ctx_train: int
    n_expert: int
    n_expert_used: int

    @property
    def n_layers(self) -> int:
        """All that can be offloaded: the repeating layers and the output."""
        return len(self.layers) + 1

    @property
    def weights_bytes(self) -> int:
        """All weights, each once."""
        own_output = 0 if self.is_tied else self.output_bytes
        return self.input_bytes + own_output + self._weights_before[-1]

    def kv_bytes(self, n_ctx: int, kv_type: str, first: int = 0, end: int | None = None) -> int:
        """The KV cache of ``n_ctx`` tokens, for the layers from ``first`` to before ``end``."""
        end = len(self.layers) if end is None else end
        elements = self._elements_before[end] - self._elements_before[first]
        states = self._states_before[end] - self._states_before[first]
        return round(elements * n_ctx * KV_BITS[kv_type.upper()] / 8) + states

    def bytes_before(self, n_ctx: int, kv_type: str) -> list[int]:
        """Weights and KV cache of all layers before each layer, and before the output."""
        known = self._bytes_before.get((n_ctx, kv_type))
        if known is None:
            factor = n_ctx * KV_BITS[kv_type.upper()] / 8
            parts = zip(
                self._weights_before, self._elements_before, self._states_before, strict=True
            )
            known = [
                weights + round(elements * factor) + state for weights, elements, state in parts
            ]
            self._bytes_before[n_ctx, kv_type] = known
        return [*known]

    def layers_bytes(self, first: int, end: int) -> int:
        """The weights of the layers from ``first`` to before ``end``."""
        return self._weights_before[end] - self._weights_before[first]

    @cached_property
    def _bytes_before(self) -> dict[tuple[int, str], list[int]]:
        """Kept, since a plan asks again and again."""
        return {}

    @cached_property
    def _weights_before(self) -> list[int]:
        return [0, *accumulate(layer.weights_bytes for layer in self.layers)]

    @cached_property
    def _elements_before(self) -> list[int]:
        return [0, *accumulate(layer.kv_elements for layer in self.layers)]

    @cached_property
    def _states_before(self) -> list[int]:
        return [0, *accumulate(layer.state_bytes for layer in self.layers)]


def footprint(header: GGUFHeader) -> Footprint:
    """What planning needs of a header; keys that it lacks count as nothing."""
    n_layer = header.number("{arch}.block_count") or 0
    weights, experts = [0] * n_layer, [0] * n_layer
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for tensor in header.tensors:
        found = _LAYER.match(tensor.name)
        if found is None:
            if _FIRST.match(tensor.name) and n_layer:
                weights[0] += _padded(tensor)
            else:
                (inputs if _INPUT.match(tensor.name) else outputs).append(tensor)
        elif int(found[1]) < n_layer - n_unused(header, n_layer):
            weights[int(found[1])] += _padded(tensor)
            experts[int(found[1])] += _padded(tensor) if _EXPERTS.search(tensor.name) else 0
    is_tied = not any(tensor.name == "output.weight" for tensor in header.tensors)
    embeddings = [tensor for tensor in inputs if tensor.name == "token_embd.weight"]
    sizes = head_sizes(header, n_layer)
    return Footprint(
        name=header.path.name,
        layers=tuple(
            Layer(weight, memory.kv_elements, memory.state_bytes, expert)
            for weight, memory, expert in zip(
                weights, memories(header, n_layer), experts, strict=True
            )
        ),
        input_bytes=_sum(inputs),
        output_bytes=_sum(outputs) + (_sum(embeddings) if is_tied else 0),
        is_tied=is_tied,
        n_params=sum(_elements(tensor) for tensor in header.tensors),
        n_embd=header.number("{arch}.embedding_length") or 0,
        n_embd_k=sizes[0] * max(heads_kv(header, n_layer), default=0),
        head_sizes=sizes,
        n_ff=_widest(header, n_layer),
        n_head=max(heads_of(header, n_layer), default=1),
        n_vocab=embeddings[0].shape[-1] if embeddings else 0,
        n_ctx_train=header.number("{arch}.context_length") or 0,
        n_expert=header.number("{arch}.expert_count") or 0,
        n_expert_used=header.number("{arch}.expert_used_count") or 0,
    )


def _widest(header: GGUFHeader, n_layer: int) -> int:
    dense = max(header.numbers("{arch}.feed_forward_length", n_layer) or (0,), default=0)
    used = header.number("{arch}.expert_used_count") or 0
    return max(dense, used * (header.number("{arch}.expert_feed_forward_length") or 0))


def _sum(tensors: Iterable[TensorInfo]) -> int:
    return sum(map(_padded, tensors))


def _padded(tensor: TensorInfo) -> int:
    return -(-tensor.size_bytes // _ALIGNMENT) * _ALIGNMENT


def _elements(tensor: TensorInfo) -> int:
    product = 1
    for size in tensor.shape:
        product *= size
    return product
