"""What each layer of a model takes, from its header alone: weights and KV cache, to the byte.

Where llama.cpp puts which tensor: ``llama-model-loader.cpp`` (``create_tensor``): the token
embeddings and what else is looked up stay on the CPU, ``blk.N.*`` go with their layer, the rest
with the output, which counts as one layer more. A model without ``output.weight`` answers with its
token embeddings: they are then in memory twice once the output is offloaded.

The KV cache: ``llama-kv-cache.cpp``. Sliding-window layers are counted whole, since contexts are
made with ``swa_full``: a cache that forgets could not be cut back for the next turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from fwlocal.gguf import GGML_TYPES, GGUFHeader, TensorInfo

KV_BITS = {name: bytes_ * 8 / block for name, block, bytes_ in GGML_TYPES.values()}
_ALIGNMENT = 128  # of tensors in a buffer: CUDA's; others have less
_LAYER = re.compile(r"blk\.(\d+)\.")
_INPUT = re.compile(r"(token_embd|token_types|position_embd|per_layer_token_embd|altup_)")
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
            (inputs if _INPUT.match(tensor.name) else outputs).append(tensor)
        elif int(found[1]) < n_layer:
            weights[int(found[1])] += _padded(tensor)
            experts[int(found[1])] += _padded(tensor) if _EXPERTS.search(tensor.name) else 0
    is_tied = not any(tensor.name == "output.weight" for tensor in header.tensors)
    embeddings = [tensor for tensor in inputs if tensor.name == "token_embd.weight"]
    caches, sizes = _caches(header, n_layer), _head_sizes(header, n_layer)
    states = _states(header, caches)
    return Footprint(
        name=header.path.name,
        layers=tuple(Layer(weights[i], caches[i], states[i], experts[i]) for i in range(n_layer)),
        input_bytes=_sum(inputs),
        output_bytes=_sum(outputs) + (_sum(embeddings) if is_tied else 0),
        is_tied=is_tied,
        n_params=sum(_elements(tensor) for tensor in header.tensors),
        n_embd=header.number("{arch}.embedding_length") or 0,
        n_embd_k=sizes[0] * max(_heads_kv(header, n_layer), default=0),
        head_sizes=sizes,
        n_ff=_widest(header, n_layer),
        n_head=max(header.numbers("{arch}.attention.head_count", n_layer) or (1,), default=1),
        n_vocab=embeddings[0].shape[-1] if embeddings else 0,
        n_ctx_train=header.number("{arch}.context_length") or 0,
        n_expert=header.number("{arch}.expert_count") or 0,
        n_expert_used=header.number("{arch}.expert_used_count") or 0,
    )


def _heads(header: GGUFHeader, n_layer: int) -> tuple[int, ...]:
    return header.numbers("{arch}.attention.head_count", n_layer) or (1,) * n_layer


def _heads_kv(header: GGUFHeader, n_layer: int) -> tuple[int, ...]:
    own = header.numbers("{arch}.attention.head_count_kv", n_layer)
    return own or _heads(header, n_layer)


def _head_sizes(header: GGUFHeader, n_layer: int) -> tuple[int, int]:
    """Of keys and of values."""
    shared = (header.number("{arch}.embedding_length") or 0) // max(1, *_heads(header, n_layer), 1)
    key = header.number("{arch}.attention.key_length") or shared
    value = header.number("{arch}.attention.value_length") or shared
    if header.number("{arch}.attention.key_length_mla"):
        value = 0  # multi-head latent attention keeps one latent for both
    return key, value


def _caches(header: GGUFHeader, n_layer: int) -> list[int]:
    """Elements of keys and values for each token, of each layer."""
    n_shared = min(header.number("{arch}.attention.shared_kv_layers") or 0, n_layer)
    size = sum(_head_sizes(header, n_layer))
    own = [heads * size for heads in _heads_kv(header, n_layer)[: n_layer - n_shared]]
    return own + [0] * n_shared


def _states(header: GGUFHeader, caches: Sequence[int]) -> list[int]:
    """Bytes of the state of each recurrent layer: one without heads in a model that has states
    (``llama_hparams::n_embd_r`` and ``n_embd_s``, float32)."""
    inner = header.number("{arch}.ssm.inner_size") or 0
    kernel = header.number("{arch}.ssm.conv_kernel") or 0
    state = header.number("{arch}.ssm.state_size") or 0
    group = header.number("{arch}.ssm.group_count") or 0
    convolved = max(kernel - 1, 0) * (inner + 2 * group * state)
    return [0 if cache else 4 * (convolved + state * inner) for cache in caches]


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
