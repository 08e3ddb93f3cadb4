"""Whether one model can draft for another: both can take tokens back, it is smaller, and its tokens
are the same. Pure.

From the headers of both files, before anything is loaded. The rules are llama.cpp's
(``common/speculative.cpp``): a few tokens more are padding, and the first ones may differ in name.
"""

from __future__ import annotations

from itertools import islice

from fwlocal.errors import UsageError
from fwlocal.gguf import GGUFHeader
from fwlocal.gguf.header import VOCABULARY, GGUFArray
from fwlocal.offload import footprint
from fwlocal.sizes import gib

MOST_PADDING = 128  # SPEC_VOCAB_MAX_SIZE_DIFFERENCE
FIRST_COMPARED = 5  # SPEC_VOCAB_CHECK_START_TOKEN_ID

# What must be the same where both files have it: a token drafted must mean what the model says.
_SAME_KEYS = {
    "tokenizer.ggml.model": "kind of vocabulary",
    "tokenizer.ggml.bos_token_id": "BOS token",
    "tokenizer.ggml.eos_token_id": "EOS token",
    "tokenizer.ggml.add_bos_token": "use of BOS",
}


def check_draft(target: GGUFHeader, draft: GGUFHeader) -> None:
    """Raises UsageError, naming the first thing that is in the way of drafting."""
    _check_memory(target, draft)
    _check_size(target, draft)
    check_same_vocabulary(target, draft)


def check_outline(target: GGUFHeader, draft: GGUFHeader) -> None:
    """The same as far as it can be told where one of them has no vocabulary, since its file is not
    here."""
    _check_memory(target, draft)
    _check_size(target, draft)
    _check_number(target, draft, footprint(target).n_vocab, footprint(draft).n_vocab)


def _check_memory(target: GGUFHeader, draft: GGUFHeader) -> None:
    if _keeps_state(target):
        raise UsageError(
            f"{target.path.name} keeps a state, which cannot take a draft back; leave --draft out"
        )
    if _keeps_state(draft):
        raise UsageError(
            f"the draft {draft.path.name} keeps a state, which cannot take tokens back; name "
            "another draft, or --draft off"
        )


def _keeps_state(header: GGUFHeader) -> bool:
    """Whether it has recurrent parts (Mamba, RWKV and the like)."""
    return any(layer.state_bytes for layer in footprint(header).layers)


def _check_size(target: GGUFHeader, draft: GGUFHeader) -> None:
    if draft.weights_bytes >= target.weights_bytes:
        sizes = [gib(header.weights_bytes) for header in (draft, target)]
        raise UsageError(
            f"the draft {draft.path.name} has {sizes[0]} and {target.path.name} {sizes[1]}; a "
            "draft must be smaller than the model it drafts for: name another, or --draft off"
        )


def check_same_vocabulary(target: GGUFHeader, draft: GGUFHeader) -> None:
    """Raises UsageError naming the first token that is not the same in both."""
    for key, what in _SAME_KEYS.items():
        ours, theirs = target.metadata.get(key), draft.metadata.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            raise _unlike(target, draft, f"its {what} is {theirs} and not {ours}")
    ours, theirs = target.metadata.get(VOCABULARY), draft.metadata.get(VOCABULARY)
    if not isinstance(ours, GGUFArray) or not isinstance(theirs, GGUFArray):
        raise _unlike(target, draft, "one of the files has no vocabulary")
    _check_number(target, draft, len(ours), len(theirs))
    if ours.data == theirs.data:
        return
    pairs = enumerate(zip(ours, theirs, strict=False))
    for token, (one, other) in islice(pairs, FIRST_COMPARED, None):
        if one != other:
            raise _unlike(target, draft, f"token {token} is {other!r} and not {one!r}")


def _check_number(target: GGUFHeader, draft: GGUFHeader, ours: int, theirs: int) -> None:
    if abs(ours - theirs) > MOST_PADDING:
        raise _unlike(target, draft, f"it has {theirs} tokens and not {ours}")


def _unlike(target: GGUFHeader, draft: GGUFHeader, difference: str) -> UsageError:
    return UsageError(
        f"the draft {draft.path.name} has another vocabulary than {target.path.name}: "
        f"{difference}; name a draft of the same family, or --draft off"
    )
