"""How large the lanes are, and whether one more is needed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fwlocal.engine import ANSWER_ROOM
from fwlocal.errors import PromptTooLong
from fwlocal.offload.context import rounded_n_ctx


@dataclass(frozen=True)
class Need:
    """Tokens of a prompt, and of the longest answer that is asked for; None asks for all that
    there is room for."""

    n_prompt: int
    max_tokens: int | None

    def n_ctx(self, limit: int) -> int:
        """Tokens of context, as far as one can tell before."""
        answer = ANSWER_ROOM if self.max_tokens is None else self.max_tokens
        return min(self.n_prompt + answer, limit)


@dataclass(frozen=True)
class PoolSize:
    """``n_lanes`` sequences at once, each of ``n_ctx`` tokens; ``keeps_prefix`` takes one lane more
    for what prompts have in common. No answer goes on beyond ``limit`` tokens."""

    n_lanes: int
    n_ctx: int
    limit: int
    keeps_prefix: bool = False

    @property
    def all_lanes(self) -> int:
        """With the one for the prefix."""
        return self.n_lanes + self.keeps_prefix

    @property
    def total_n_ctx(self) -> int:
        """Tokens in all lanes."""
        return self.n_ctx * self.all_lanes


def pool_size(
    needs: Iterable[Need], n_parallel: int, limit: int, *, keeps_prefix: bool = False
) -> PoolSize:
    """What those prompts and their answers need, at most ``n_parallel`` at a time. An answer whose
    length nobody bounds may outgrow it."""
    sizes = [need.n_ctx(limit) for need in needs]
    n_lanes = max(1, min(n_parallel, len(sizes)))
    n_ctx = rounded_n_ctx(max(sizes, default=1))
    return PoolSize(n_lanes, n_ctx, limit, keeps_prefix and len(sizes) > 1)


def check_fits(n_prompt: int, limit: int) -> None:
    """Raises PromptTooLong unless an answer has room behind the prompt."""
    if n_prompt >= limit:
        raise PromptTooLong(
            f"the prompt has {n_prompt} tokens and the context holds {limit}; shorten it, or take "
            "a larger --n-ctx"
        )
