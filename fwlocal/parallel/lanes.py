"""The lanes of a pool: filled with prompts, moved together, and grown when an answer outgrows them.

The prompt whose beginning others share is kept in a lane of its own, to be copied from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fwlocal import llama
from fwlocal.errors import DoesNotFit
from fwlocal.parallel.prefix import EDGE, batches, reusable
from fwlocal.parallel.size import PoolSize

OpenSequences = Callable[[int], llama.Sequences]  # given the tokens of a lane


class Lanes:
    """``size.n_lanes`` lanes, all empty. ``open_sequences`` makes the caches."""

    def __init__(self, size: PoolSize, open_sequences: OpenSequences) -> None:
        self.size = size
        self.n_ctx = size.n_ctx
        self.reuses = size.keeps_prefix
        self._open = open_sequences
        self.sequences = open_sequences(size.n_ctx)
        self._prefix: tuple[int, ...] = ()

    def close(self) -> None:
        """Free the caches."""
        self.sequences.close()

    def prefill(self, lane: int, prompt: Sequence[int], reused: int) -> bool:
        """Evaluate a prompt, from a kept prefix of ``reused`` tokens on; False when stopped."""
        sequences = self.sequences
        if reused:
            sequences.copy(self.size.n_lanes, lane)
        sequences.truncate(lane, reused)
        return all(
            sequences.prefill(lane, prompt[start:end], start)
            for start, end in batches(reused, len(prompt), sequences.n_batch)
        )

    def reusable(self, prompt: Sequence[int]) -> int:
        """How many tokens of the prompt are kept."""
        return reusable(self._prefix, prompt, self.sequences.n_batch) if self.reuses else 0

    def keep(self, lane: int, prompt: tuple[int, ...]) -> None:
        """Keep a prompt that is evaluated, for those that begin like it."""
        if self.reuses and len(prompt) > EDGE:
            self.sequences.copy(lane, self.size.n_lanes)
            self._prefix = prompt

    def grow(self, n_cached: Mapping[int, int]) -> bool:
        """Move the lanes, of which ``n_cached`` tells the tokens, into ones of twice the size, the
        limit at most; False, and all as it was, where there is no memory for that."""
        n_ctx = min(2 * self.n_ctx, self.size.limit)
        states = {lane: self.sequences.state(lane) for lane in n_cached}
        self.sequences.close()
        self._prefix = ()
        try:
            self.sequences = self._open(n_ctx)
            self.n_ctx = n_ctx
        except DoesNotFit:
            self.sequences = self._open(self.n_ctx)
        for lane, state in states.items():
            if not self.sequences.restore(lane, state):
                raise DoesNotFit(
                    "an answer outgrew its context, which could not be moved into a larger one; "
                    "take a --max-tokens"
                )
        return self.n_ctx == n_ctx
