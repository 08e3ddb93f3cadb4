"""An answer's counts and speeds, and what fills the context, in words and as a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fwlocal.answer import Result

_FREE = "░"
WIDEST_BAR = 60  # cells


@dataclass(frozen=True)
class Share:
    """Tokens of one part of the context; ``sign`` stands for them in a bar, which so is read
    without colours too."""

    sign: str
    name: str
    tokens: int


def stats_line(result: Result, first: Result, limit: int) -> str:
    """What stands under an answer, of which ``first`` is the first part and ``result`` the last;
    with what saved work, where anything did."""
    used = result.prompt_tokens + result.completion_tokens
    drafted = f" ({_drafted(result)})" if result.n_drafted else ""
    restored = f" ({first.n_restored} tokens from the prefix cache)" if first.n_restored else ""
    return (
        f"{result.timings.decode_tps:.1f} tok/s{drafted}, first token after "
        f"{first.timings.ttft_s:.2f} s{restored}, context {used} of {limit}, "
        f"{percent(used, limit)}"
    )


def _drafted(result: Result) -> str:
    return f"{result.n_accepted} of {result.n_drafted} drafted accepted"


def figures(result: Result) -> str:
    """All that is known of an answer."""
    t = result.timings
    evaluated = result.prompt_tokens - result.reused_tokens
    restored = ", from the prefix cache" if result.n_restored else ""
    drafted = f", {_drafted(result)}" if result.n_drafted else ""
    return "\n".join(
        (
            f"  prompt   {result.prompt_tokens} tokens, {result.reused_tokens} of them reused"
            f"{restored}; {evaluated} in {t.prefill_s:.2f} s, {t.prefill_tps:.1f} tok/s",
            f"  answer   {result.completion_tokens} tokens in {t.decode_s:.2f} s, "
            f"{t.decode_tps:.1f} tok/s{drafted}; ended by {result.finish_reason}",
            f"  latency  first token after {t.ttft_s:.2f} s",
            f"  seed     {result.seed}",
        )
    )


def percent(part: int, whole: int) -> str:
    """A share of a whole, in whole percent."""
    return f"{100 * part // max(whole, 1)} %"


def context_bar(shares: Sequence[Share], limit: int, width: int) -> str:
    """A bar of at most ``width`` cells, each share with its sign, and what the signs mean."""
    cells = max(1, min(WIDEST_BAR, width))
    bar, seen = "", 0
    for share in shares:
        seen += share.tokens
        upto = min(cells, round(cells * seen / max(limit, 1)))
        bar += share.sign * (upto - len(bar))
    bar += _FREE * (cells - len(bar))
    used = sum(share.tokens for share in shares)
    rows = [*shares, Share(_FREE, "free", max(limit - used, 0))]
    digits = len(str(limit))
    legend = [
        f"{share.sign} {share.tokens:>{digits}}  {percent(share.tokens, limit):>5}  {share.name}"
        for share in rows
    ]
    return "\n".join([bar, *legend])
