"""The choice of the next token: a chain of llama.cpp's samplers, and a grammar over it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

from fwlocal.errors import BadGrammar
from fwlocal.llama.bindings import lib, log
from fwlocal.llama.model import Model

# sampler name -> its constructor, given the vocabulary's size and a stage's arguments
_SAMPLERS: Mapping[str, Callable[..., Any]] = {
    "penalties": lambda n_vocab, last_n, repeat, frequency, presence: (
        lib.llama_sampler_init_penalties(n_vocab, int(last_n), repeat, frequency, presence)
    ),
    "top_k": lambda _, k: lib.llama_sampler_init_top_k(int(k)),
    "top_p": lambda _, p, min_keep: lib.llama_sampler_init_top_p(p, int(min_keep)),
    "min_p": lambda _, p, min_keep: lib.llama_sampler_init_min_p(p, int(min_keep)),
    "temp": lambda _, temperature: lib.llama_sampler_init_temp(temperature),
    "dist": lambda _, seed: lib.llama_sampler_init_dist(int(seed)),
    "greedy": lambda _: lib.llama_sampler_init_greedy(),
}


_GREEDY = [("greedy", ())]


class Computed(Protocol):
    """A context that has computed logits; ``handle`` is the ``llama_context *``."""

    @property
    def handle(self) -> Any: ...


class Sampler:
    """A chain of samplers, and optionally a grammar that every token must obey.

    ``stages`` are (name, arguments) pairs. Raises BadGrammar for a grammar that does not parse.
    """

    def __init__(
        self, model: Model, stages: Sequence[tuple[str, Sequence[float]]], grammar: str | None
    ) -> None:
        self._model = model
        self._grammar = None if grammar is None else _init_grammar(model, grammar)
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in filter(None, (self._grammar, self._chain)):
            weakref.finalize(self, lib.llama_sampler_free, sampler)
        for name, arguments in stages:
            sampler = _SAMPLERS[name](model.n_vocab, *arguments)
            lib.llama_sampler_chain_add(self._chain, sampler)
        # llama.cpp copies the vocabulary for each token, which takes ten times as long as numpy's
        # argmax; importing numpy takes as long as it saves in hundreds of tokens.
        is_greedy = grammar is None and list(stages) == _GREEDY
        self._takes_peak = is_greedy and "numpy" in sys.modules

    def remember(self, tokens: Sequence[int]) -> None:
        """Count ``tokens`` as said already, for the penalties; the grammar does not see them."""
        for token in tokens:
            lib.llama_sampler_accept(self._chain, token)

    def go_on(self, tokens: Sequence[int]) -> None:
        """Let the grammar, if there is one, see what the answer has said. Raises BadGrammar where
        that is not what it allows."""
        for token in tokens if self._grammar is not None else ():
            if not self._allows(token):
                raise BadGrammar("the answer so far does not obey the grammar; go on without it")
            lib.llama_sampler_accept(self._grammar, token)

    def sample(self, computed: Computed, row: int = -1) -> int:
        """Choose the token that follows by a row of the logits computed last, counted from their
        end where it is negative, and remember it."""
        if self._takes_peak:
            return self._peak(computed, row)
        if self._grammar is None:
            return int(lib.llama_sampler_sample(self._chain, computed.handle, row))
        token = self._choose(computed, row, constrained=False)
        if not self._allows(token):
            token = self._choose(computed, row, constrained=True)
        lib.llama_sampler_accept(self._grammar, token)
        lib.llama_sampler_accept(self._chain, token)
        return token

    def _peak(self, computed: Computed, row: int) -> int:
        """The likeliest token, the first of several: what the greedy sampler chooses."""
        import numpy as np

        logits = lib.llama_get_logits_ith(computed.handle, row)
        return int(np.ctypeslib.as_array(logits, (self._model.n_vocab,)).argmax())

    # The grammar is asked about one token first, and about the whole vocabulary only when it
    # refuses: llama.cpp's own way, since the full question costs as much as the evaluation.

    def _choose(self, computed: Computed, row: int, *, constrained: bool) -> int:
        import numpy as np

        n_vocab = self._model.n_vocab
        logits = lib.llama_get_logits_ith(computed.handle, row)
        data = np.zeros(n_vocab, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
        data["id"] = np.arange(n_vocab)
        data["logit"] = np.ctypeslib.as_array(logits, (n_vocab,))
        pointer = data.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
        candidates = lib.llama_token_data_array(pointer, n_vocab, -1, False)
        if constrained:
            lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        lib.llama_sampler_apply(self._chain, ctypes.byref(candidates))
        return int(candidates.data[candidates.selected].id)

    def _allows(self, token: int) -> bool:
        one = (lib.llama_token_data * 1)(lib.llama_token_data(token, 1.0, 0.0))
        candidates = lib.llama_token_data_array(one, 1, -1, False)
        lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        return bool(one[0].logit != float("-inf"))


def _init_grammar(model: Model, grammar: str) -> Any:
    log.clear()
    with _captured_stderr() as captured:  # the grammar's parser does not use the log
        sampler = lib.llama_sampler_init_grammar(model.vocab, grammar.encode("utf-8"), b"root")
        captured.seek(0)
        said = captured.read().decode("utf-8", "replace").splitlines()
    if not sampler:
        reason = said[0].rpartition("error parsing grammar: ")[2] if said else log.last_error()
        raise BadGrammar(f"the grammar is no valid GBNF: {reason}")
    return sampler


@contextlib.contextmanager
def _captured_stderr() -> Iterator[IO[bytes]]:
    """What native code writes to the process's stderr, into a temporary file."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)
