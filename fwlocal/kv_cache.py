"""The KV cache: which tokens it holds, how much of a new prompt they are, and how it grows.

What is in it is never evaluated again, also not when it outgrows its context: its state moves into
the larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fwlocal import llama
from fwlocal.errors import DoesNotFit, PromptTooLong
from fwlocal.offload import default_n_ctx
from fwlocal.offload.context import rounded_n_ctx


def _any_size(n_ctx_now: int, n_ctx: int) -> None:
    pass


def _unnoticed(context: llama.Context) -> None:
    pass


LEAST_MOVED = 32  # tokens behind a gap that are worth moving; a format's scaffold is fewer
MOST_SHORT = 1024  # tokens of a question and its answer that get a context of their own size


class KVCache:
    """A llama.cpp context and the tokens whose keys and values it holds.

    ``options.n_ctx`` 0 lets it grow up to what the model was trained on. ``check_n_ctx`` gets the
    size now, 0 at first, and the one that is needed, and raises DoesNotFit where the machine cannot
    hold it; ``on_open`` gets each context; ``should_stop`` ends long evaluations.
    """

    def __init__(
        self,
        model: llama.Model,
        options: llama.ContextOptions,
        should_stop: Callable[[], bool],
        check_n_ctx: Callable[[int, int], None] = _any_size,
        on_open: Callable[[llama.Context], None] = _unnoticed,
    ) -> None:
        self.tokens: list[int] = []
        self.is_compact = True  # a token's place is its position; no gap was closed
        self.n_whole = 0  # of the first tokens, evaluated in whole batches but for the last one
        self.limit = options.n_ctx or model.n_ctx_train or default_n_ctx(0)
        self._model = model
        self._options = options
        self._should_stop = should_stop
        self._check_n_ctx, self._on_open = check_n_ctx, on_open
        self._context: llama.Context | None = None

    @property
    def n_ctx(self) -> int:
        """Tokens that the context holds now, or would if it was made by ``open``."""
        if self._context is not None:
            return self._context.n_ctx
        return self._options.n_ctx or default_n_ctx(self._model.n_ctx_train)

    @property
    def context(self) -> llama.Context:
        """The context; RuntimeError before ``make_room``."""
        if self._context is None:
            raise RuntimeError("the KV cache has no context yet")
        return self._context

    def open(self) -> None:
        """Make the context now, and not when the first prompt comes."""
        if self._context is None:
            self._open(self.n_ctx)

    def make_room(self, n_prompt: int, n_answer: int) -> None:
        """Make or grow the context for a prompt, and if it may grow for an answer too.

        Raises PromptTooLong, and leaves what is cached as it is.
        """
        if n_prompt >= self.limit:
            raise PromptTooLong(self._too_long(n_prompt))
        if self._context is None:
            wanted = self._first_n_ctx(n_prompt, n_answer)
            if not self._options.n_ctx:
                self._check_n_ctx(0, wanted)
            self._open(self._options.n_ctx or wanted)
        elif n_prompt >= self.n_ctx:
            self._grow(n_prompt + n_answer)

    def keep_common(self, prompt: Sequence[int], *, may_shift: bool = False) -> int:
        """Drop what is not the beginning of ``prompt``; how many of its tokens need no evaluation.

        The last one always does: its logits choose the next token. With ``may_shift`` what stands
        behind a gap in the prompt is kept too, and moved, where the context can.
        """
        del self.tokens[self.context.cached() :]
        shared = min(_common_prefix(self.tokens, prompt), len(prompt) - 1)
        if may_shift and self.context.can_move:
            start, length = behind_gap(self.tokens, prompt[:-1], shared)
            if length:
                return self._close_gap(shared, start, length)
        return self._truncate(shared)

    def evaluate(self, tokens: Sequence[int]) -> bool:
        """Add ``tokens``, a batch at a time; False when it was stopped on the way."""
        context = self.context
        for start in range(0, len(tokens), context.n_batch):
            batch = tokens[start : start + context.n_batch]
            if self._should_stop():
                return False
            is_whole = self.n_whole == len(self.tokens) and self.n_whole % context.n_batch == 0
            if not context.decode(batch):
                # Whole micro-batches of it may have been evaluated; they are of use next time.
                self.tokens += batch[: context.cached() - len(self.tokens)]
                return False
            self.tokens += batch
            self.n_whole = len(self.tokens) if is_whole else self.n_whole
        return True

    def evaluate_one(self, token: int) -> None:
        """Add one token, growing when the context is full. Raises DoesNotFit when it cannot."""
        if len(self.tokens) >= self.n_ctx:
            self._grow(len(self.tokens) + 1)
        self.context.decode_one(token)
        self.tokens.append(token)

    def take(self, tokens: Sequence[int], state: Any) -> bool:
        """Hold ``tokens``, whole batches of them, by the state of a context that held them and
        perhaps more; False, and nothing is held, where it cannot."""
        self.clear()
        if not self.context.restore(state):
            return False
        self.tokens = list(tokens)
        self.n_whole = self._truncate(len(tokens))
        return bool(self.tokens)

    def clear(self) -> None:
        """Forget everything; the context stays."""
        if self._context is not None:
            self._truncate(0)

    def close(self) -> None:
        """Free the context."""
        if self._context is not None:
            self._context.close()
        self._context, self.tokens, self.n_whole, self.is_compact = None, [], 0, True

    def _first_n_ctx(self, n_prompt: int, n_answer: int) -> int:
        trained = self._model.n_ctx_train
        if self._model.n_swa:  # its state is rounded otherwise when it has moved
            return default_n_ctx(trained, n_prompt + n_answer)
        return first_n_ctx(trained, n_prompt, n_answer, n_batch=self._options.n_batch)

    def _open(self, n_ctx: int) -> None:
        options = replace(self._options, n_ctx=n_ctx)
        self._context = llama.Context(self._model, options, self._should_stop)
        self._on_open(self._context)

    def _grow(self, n_wanted: int) -> None:
        """Move the cache into a context of at least twice the size, within the limit."""
        wanted = max(default_n_ctx(self.limit, n_wanted), 2 * self.n_ctx)
        n_ctx = min(wanted, self.limit)
        self._check_n_ctx(self.n_ctx, n_ctx)
        tokens, state, before = self.tokens, self.context.state(), self.n_ctx
        n_whole = self.n_whole
        self.close()
        try:
            self._open(n_ctx)
        except DoesNotFit as refusal:
            self._open(before)
            self._take_over(tokens, state, n_whole)
            raise DoesNotFit(
                f"there was no memory for a context of {n_ctx} tokens ({refusal}); start with "
                f"--n-ctx {n_ctx}, so that it is planned for"
            ) from refusal
        self._take_over(tokens, state, n_whole)

    def _take_over(self, tokens: list[int], state: Any, n_whole: int) -> None:
        if state is not None and self.context.restore(state):
            self.tokens, self.n_whole = tokens, n_whole
        else:
            self.evaluate(tokens)

    def _close_gap(self, shared: int, start: int, length: int) -> int:
        """Keep the first ``shared`` tokens and ``length`` from ``start``; how many that are."""
        if self._truncate(start + length) == start + length:
            self.context.remove(shared, start)
            self.is_compact = False
            del self.tokens[shared:start]
            self.n_whole = min(self.n_whole, shared)
        return len(self.tokens)

    def _truncate(self, n_tokens: int) -> int:
        """Cut down to the first ``n_tokens``; how many could really be kept."""
        # The context's own count is the truth, also after an exception between two steps.
        if self.context.cached() > n_tokens and not self.context.truncate(n_tokens):
            n_tokens = 0
        del self.tokens[n_tokens:]
        self.n_whole = min(self.n_whole, n_tokens)
        self.is_compact = self.is_compact or not n_tokens
        return n_tokens

    def _too_long(self, n_prompt: int) -> str:
        trained = self._model.n_ctx_train
        hint = (
            f"--n-ctx {trained} would hold it"
            if n_prompt < trained
            else f"the model was trained on {trained} tokens; shorten it"
        )
        return f"the prompt has {n_prompt} tokens and the context holds {self.limit}; {hint}"


def first_n_ctx(n_ctx_train: int, n_prompt: int, n_answer: int, *, n_batch: int) -> int:
    """The size of a context that can grow, for a prompt and its answer: the default, or where both
    are short no more than they need.

    All of a context is cleared when it is made: 4096 tokens take as long as decoding a few. It
    holds a batch at least, so that prompts are cut into the same batches, and rounded alike. Of a
    prompt of more than one batch the beginning may be on the disk, in a longer state.
    """
    n_needed = n_prompt + n_answer
    if n_needed > MOST_SHORT or n_prompt > n_batch:
        return default_n_ctx(n_ctx_train, n_needed)
    least = rounded_n_ctx(max(n_needed, n_batch))
    return min(least, default_n_ctx(n_ctx_train, n_needed))


def behind_gap(cached: Sequence[int], prompt: Sequence[int], shared: int) -> tuple[int, int]:
    """Where in ``cached``, behind the ``shared`` beginning and a gap, the longest stretch stands
    that the rest of ``prompt`` begins with, and its length; (0, 0) for none worth moving.

    By the Z algorithm: the time is that of reading both once, whatever they repeat.
    """
    wanted, found = prompt[shared:], cached[shared + 1 :]
    if min(len(wanted), len(found)) < LEAST_MOVED:
        return 0, 0
    lengths = _z_array([*wanted, None, *found])[len(wanted) + 1 :]
    longest = max(lengths)
    if longest < LEAST_MOVED:
        return 0, 0
    return shared + 1 + lengths.index(longest), longest


def _z_array(items: Sequence[object]) -> list[int]:
    """How many items from each place on are those that all of it begins with; 0 at the first."""
    lengths = [0] * len(items)
    left = right = 0  # the stretch found so far that reaches furthest
    for index in range(1, len(items)):
        length = min(lengths[index - left], right - index) if index < right else 0
        while index + length < len(items) and items[length] == items[index + length]:
            length += 1
        lengths[index] = length
        if index + length > right:
            left, right = index, index + length
    return lengths


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length
