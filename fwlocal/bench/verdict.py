"""Which levels are worth having, and which one to take for what is wished. Pure.

A level is on the Pareto front unless another one is at least as good in size, decode speed and mean
KLD, and better in one. Where two levels are known to tie in a measure (neighbours alone have a
``Difference``), each is as good as the other there; all others are ranked by their figures. Who
lacks a measure that another level has is not on the front and fulfils no wish for it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fwlocal.bench.result import Difference, LevelResult, Speed, Verdict
from fwlocal.offload.context import rounded_n_ctx
from fwlocal.sizes import GIB, MIB


@dataclass(frozen=True)
class Wishes:
    """What is asked of a level: the largest mean KLD in nats, the least decode speed in tok/s, the
    most memory in bytes. None is no wish."""

    max_kld: float | None = None
    min_tps: float | None = None
    memory_bytes: int | None = None


def decode_speed(level: LevelResult) -> Speed | None:
    """The speed that levels are compared by: decoding at depth 0, or at the least one measured."""
    decoding = [speed for speed in level.speeds if speed.test.n_gen and speed.tps]
    return min(decoding, key=lambda speed: speed.test.n_depth, default=None)


def decode_tps(level: LevelResult) -> float | None:
    """The median of that, tok/s."""
    speed = decode_speed(level)
    return None if speed is None else speed.median


def memory_bytes(level: LevelResult) -> int:
    """What the level takes of all devices; of one that was not loaded, its file's size."""
    return sum(device.total for device in level.devices) or level.size_bytes


def memory_n_ctx(level: LevelResult) -> int:
    """The tokens that the KV cache in ``memory_bytes`` has room for: what the speed tests needed;
    0 where none was run."""
    needed = (test.n_prompt + test.n_gen + test.n_depth for test in (s.test for s in level.speeds))
    return rounded_n_ctx(max(needed, default=0))


def mean_kld(level: LevelResult) -> float | None:
    """In nats; None where it was not measured or came to no number."""
    if level.quality is None or math.isnan(level.quality.kld_mean.value):
        return None
    return level.quality.kld_mean.value


class _Scale:
    """The levels that can be judged, with what they are judged by."""

    def __init__(self, levels: Iterable[LevelResult], differences: Iterable[Difference]) -> None:
        self.levels = [level for level in levels if not level.problem]
        self._ties = {(frozenset((d.a, d.b)), d.measure) for d in differences if d.is_tie}
        # NaN that the reference has too are not the level's own.
        references = [level.quality for level in self.levels if level.is_reference]
        self._n_nan = max((quality.n_nan for quality in references if quality), default=0)

    def kld(self, level: LevelResult) -> float | None:
        """The mean KLD; None too for a level that now and then computes no numbers."""
        if level.quality is None or level.quality.n_nan > self._n_nan:
            return None
        return mean_kld(level)

    def tie(self, x: LevelResult, y: LevelResult, measure: str) -> bool:
        """Whether the data are known not to tell the two apart."""
        return (frozenset((x.label, y.label)), measure) in self._ties

    def tie_in_speed(self, x: LevelResult, y: LevelResult) -> bool:
        """The same of ``decode_speed``."""
        speed = decode_speed(x)
        return speed is not None and self.tie(x, y, speed.test.name)

    def costs(self, level: LevelResult) -> tuple[float | None, float | None, float]:
        """What one wants less of; None where it is not known."""
        tps = decode_tps(level)
        return self.kld(level), None if tps is None else -tps, level.size_bytes

    def ties(self, x: LevelResult, y: LevelResult) -> tuple[bool, bool, bool]:
        """Whether they tie in each of the costs."""
        same_size = x.size_bytes == y.size_bytes
        return self.tie(x, y, "kld_mean"), self.tie_in_speed(x, y), same_size


def front(levels: Sequence[LevelResult], differences: Sequence[Difference]) -> tuple[str, ...]:
    """The labels on the Pareto front, in the order of ``levels``; none where neither speed nor
    quality was measured."""
    scale = _Scale(levels, differences)
    costs = {level.label: scale.costs(level) for level in scale.levels}
    measured = [any(cost[i] is not None for cost in costs.values()) for i in range(3)]
    if not any(measured[:2]):
        return ()
    whole = [
        level
        for level in scale.levels
        if all(cost is not None for cost, is_there in zip(costs[level.label], measured, strict=True)
               if is_there)
    ]  # fmt: skip
    return tuple(
        level.label
        for level in whole
        if not any(_dominates(other, level, scale) for other in whole if other is not level)
    )


def _dominates(x: LevelResult, y: LevelResult, scale: _Scale) -> bool:
    is_better = False
    for of_x, of_y, is_tie in zip(scale.costs(x), scale.costs(y), scale.ties(x, y), strict=True):
        if of_x is None or of_y is None or is_tie:
            continue
        if of_x > of_y:
            return False
        is_better = is_better or of_x < of_y
    return is_better


@dataclass(frozen=True)
class _Wish:
    """One limit, and the words for it: a level ``does`` or levels ``do`` keep to it; ``missing`` is
    said where nobody has the measure."""

    limit: float
    value: Callable[[LevelResult], float | None]
    is_met: Callable[[Any, Any], bool]
    best: Callable[..., LevelResult]
    does: str
    do: str
    nearest: str
    missing: str
    figure: Callable[[LevelResult], str]

    def is_met_by(self, level: LevelResult) -> bool:
        """Whether the level's value is known and within the limit."""
        value = self.value(level)
        return value is not None and self.is_met(value, self.limit)


def _asked(wishes: Wishes, scale: _Scale) -> Iterator[_Wish]:
    """The wishes that were made, what is hardest to change first."""
    if wishes.memory_bytes is not None:
        limit = f"at most {_size(wishes.memory_bytes)}"
        yield _Wish(
            wishes.memory_bytes, memory_bytes, operator.le, min,
            f"takes {limit}", f"take {limit}", "the smallest", "", _memory,
        )  # fmt: skip
    if wishes.max_kld is not None:
        limit = f"a mean KLD of at most {wishes.max_kld:.4g}"
        yield _Wish(
            wishes.max_kld, scale.kld, operator.le, min,
            f"has {limit}", f"have {limit}", "the nearest to the reference",
            "its quality was not measured", lambda level: _kld(scale.kld(level) or 0.0),
        )  # fmt: skip
    if wishes.min_tps is not None:
        limit = _tps(wishes.min_tps)
        yield _Wish(
            wishes.min_tps, decode_tps, operator.ge, max,
            f"reaches {limit}", f"reach {limit}", "the fastest",
            "its decode speed was not measured", lambda level: _tps(decode_tps(level) or 0.0),
        )  # fmt: skip


def _size(size_bytes: float) -> str:
    """In the table's units, with a digit more."""
    unit, scale = ("GiB", GIB) if size_bytes >= GIB else ("MiB", MIB)
    return f"{size_bytes / scale:.4g} {unit}"


def _memory(level: LevelResult) -> str:
    """What is held against the limit, and what it counts."""
    size = _size(memory_bytes(level))
    if not level.devices:
        return f"a file of {size}"
    n_ctx = memory_n_ctx(level)
    cache = f"a KV cache of {n_ctx:,} tokens" if n_ctx else "the KV cache"
    return f"{size} of memory (weights, {cache} and buffers)"


def _kld(nats: float) -> str:
    return f"a mean KLD of {nats:.4g}"


def _tps(tps: float) -> str:
    return f"{tps:.4g} tok/s"


def decide(
    levels: Sequence[LevelResult],
    differences: Sequence[Difference],
    wishes: Wishes,
    command: Callable[[LevelResult], str],
) -> Verdict:
    """The front, and of the levels that fulfil every wish the one to take.

    With a wish for a KLD that is the fastest of them (among those that tie with it the smallest),
    else the nearest to the reference (among those that tie with it the fastest). Without any wish
    none is recommended: which trade is right only the user knows. Where nothing fulfils, ``label``
    is "" and the reason names the nearest miss. ``command`` gives what runs a level.
    """
    marked = front(levels, differences)
    if wishes == Wishes():
        return Verdict(marked)
    scale = _Scale(levels, differences)
    left, met = scale.levels, list[_Wish]()
    if not left:
        return Verdict(marked, reason="no level could be measured")
    for wish in _asked(wishes, scale):
        fulfilling = [level for level in left if wish.is_met_by(level)]
        if not fulfilling:
            return Verdict(marked, reason=_missed(wish, left, met))
        left = fulfilling
        met.append(wish)
    choose = _nearest if wishes.max_kld is None else _fastest
    taken, what = choose(left, scale)
    those = " and ".join(wish.do for wish in met)
    reason = f"of the levels that {those}, {taken.label} is {what}: {_figures(taken, scale)}"
    return Verdict(marked, taken.label, reason, command(taken))


def _missed(wish: _Wish, left: Sequence[LevelResult], met: Sequence[_Wish]) -> str:
    """Why none of ``left``, who fulfil the wishes ``met``, fulfils this one."""
    those = " and ".join(before.do for before in met)
    nobody = f"of the levels that {those}, none" if met else "no level"
    known = [level for level in left if wish.value(level) is not None]
    if not known:
        return f"{nobody} is known to {wish.do}: {wish.missing}"
    best = wish.best(known, key=wish.value)
    return f"{nobody} {wish.does}; {wish.nearest} is {best.label} with {wish.figure(best)}"


def _fastest(left: Sequence[LevelResult], scale: _Scale) -> tuple[LevelResult, str]:
    """Whom to take, and what it is, in words."""
    timed = [level for level in left if decode_tps(level) is not None]
    if not timed:
        return _smallest(left), "the smallest (no decode speed was measured)"
    first = max(timed, key=lambda level: decode_tps(level) or 0.0)
    taken = _smallest([first, *(level for level in timed if scale.tie_in_speed(first, level))])
    if taken is first:
        return first, "the fastest"
    return taken, f"as fast as {first.label} (a tie) and smaller"


def _smallest(levels: Sequence[LevelResult]) -> LevelResult:
    return min(levels, key=lambda level: level.size_bytes)


def _nearest(left: Sequence[LevelResult], scale: _Scale) -> tuple[LevelResult, str]:
    """The same, by the distance from the reference."""
    judged = [level for level in left if scale.kld(level) is not None]
    if not judged:
        most = max(left, key=lambda level: level.bits_per_weight)
        return most, "the one with most bits per weight (no quality was measured)"
    first = min(judged, key=lambda level: scale.kld(level) or 0.0)
    alike = [level for level in judged if scale.tie(first, level, "kld_mean")]
    tps = decode_tps(first) or 0.0
    faster = [
        level
        for level in alike
        if (decode_tps(level) or 0.0) > tps and not scale.tie_in_speed(first, level)
    ]
    if not faster:
        return first, "the nearest to the reference"
    taken = max(faster, key=lambda level: decode_tps(level) or 0.0)
    return taken, f"as near to the reference as {first.label} (a tie) and faster"


def _figures(level: LevelResult, scale: _Scale) -> str:
    kld, tps = scale.kld(level), decode_tps(level)
    known = (
        None if kld is None else _kld(kld),
        None if tps is None else _tps(tps),
        _memory(level),
    )
    return ", ".join(text for text in known if text)
