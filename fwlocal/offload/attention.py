"""What each layer keeps of a conversation: keys and values for each token, or a state that does not
grow, as the header's keys tell.

llama.cpp: ``llama-kv-cache.cpp``, ``llama_hparams::n_embd_r`` and ``n_embd_s``, and the ``is_recr``
of hybrid models in ``src/models``.
"""

from __future__ import annotations

from dataclasses import dataclass

from fwlocal.gguf import GGUFArray, GGUFHeader

_BOTH = {"falcon-h1"}  # every layer has attention and a state
_INTERVALS = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}  # of full attention, by default


@dataclass(frozen=True)
class Memory:
    """Elements of keys and values that one layer keeps for each token, and bytes of its state."""

    kv_elements: int
    state_bytes: int = 0


def memories(header: GGUFHeader, n_layer: int) -> list[Memory]:
    """Of each layer. Those that only predict further tokens (``nextn_predict_layers``) are loaded
    by no one here, and keep nothing."""
    heads = heads_kv(header, n_layer)
    recurrent, swa = _recurrent(header, n_layer, heads), _flags(header, _PATTERN, n_layer)
    size, size_swa = sum(head_sizes(header, n_layer)), _size_swa(header)
    state, is_both = _state_bytes(header, n_layer), header.architecture in _BOTH
    n_own = n_layer - min(header.number("{arch}.attention.shared_kv_layers") or 0, n_layer)
    n_used = n_layer - n_unused(header, n_layer)
    found = []
    for index in range(n_layer):
        has_state = (recurrent[index] or is_both) and index < n_used
        keeps = index < min(n_own, n_used) and (is_both or not recurrent[index])
        per_head = size_swa if size_swa and swa and swa[index] else size
        found.append(Memory(heads[index] * per_head * keeps, state * has_state))
    return found


def n_unused(header: GGUFHeader, n_layer: int) -> int:
    """How many of the last layers are counted, but not loaded."""
    return min(header.number("{arch}.nextn_predict_layers") or 0, n_layer)


def heads_kv(header: GGUFHeader, n_layer: int) -> tuple[int, ...]:
    """Heads of keys and values, of each layer."""
    own = header.numbers("{arch}.attention.head_count_kv", n_layer)
    return own or heads_of(header, n_layer)


def heads_of(header: GGUFHeader, n_layer: int) -> tuple[int, ...]:
    """Heads, of each layer."""
    return header.numbers("{arch}.attention.head_count", n_layer) or (1,) * n_layer


def head_sizes(header: GGUFHeader, n_layer: int) -> tuple[int, int]:
    """Elements of one head of keys, and of values."""
    shared = (header.number("{arch}.embedding_length") or 0) // max(
        1, *heads_of(header, n_layer), 1
    )
    key = header.number("{arch}.attention.key_length") or shared
    value = header.number("{arch}.attention.value_length") or shared
    if header.number("{arch}.attention.key_length_mla"):
        value = 0  # multi-head latent attention keeps one latent for both
    return key, value


_PATTERN = "{arch}.attention.sliding_window_pattern"


def _size_swa(header: GGUFHeader) -> int:
    """Elements of both in layers with a sliding window, where they have sizes of their own."""
    key = header.number("{arch}.attention.key_length_swa") or 0
    return key + (header.number("{arch}.attention.value_length_swa") or 0)


def _recurrent(header: GGUFHeader, n_layer: int, heads: tuple[int, ...]) -> list[bool]:
    """Which layers have a state and no attention."""
    told = _flags(header, "{arch}.attention.recurrent_layers", n_layer)
    if told:
        return told
    interval = header.number("{arch}.full_attention_interval") or _INTERVALS.get(
        header.architecture
    )
    if interval:
        return [(index + 1) % interval != 0 for index in range(n_layer)]
    return [not count for count in heads]


def _flags(header: GGUFHeader, key: str, n_layer: int) -> list[bool]:
    """An array of yes and no for each layer; empty where there is none."""
    value = header.metadata.get(key.replace("{arch}", header.architecture))
    if not isinstance(value, GGUFArray) or len(value) != n_layer:
        return []
    return [bool(item) for item in value]


def _state_bytes(header: GGUFHeader, n_layer: int) -> int:
    """Float32 of the convolution's and the recurrence's state, of one layer."""
    n_embd = header.number("{arch}.embedding_length") or 0
    kernel = header.number("{arch}.ssm.conv_kernel") or 0
    wkv = header.number("{arch}.wkv.head_size") or 0
    short = header.number("{arch}.shortconv.l_cache") or 0
    kda = header.number("{arch}.kda.head_dim") or 0
    if wkv:
        return 4 * n_embd * (wkv + (header.number("{arch}.token_shift_count") or 2))
    if short:
        return 4 * n_embd * (short - 1)
    if kda:
        width = kda * max(heads_of(header, n_layer), default=1)
        return 4 * (3 * (kernel - 1 if kernel else 3) * width + kda * width)
    inner = header.number("{arch}.ssm.inner_size") or 0
    state = header.number("{arch}.ssm.state_size") or 0
    group = header.number("{arch}.ssm.group_count") or 0
    return 4 * (max(kernel - 1, 0) * (inner + 2 * group * state) + state * inner)
