"""How many rows may be evaluated at once so that each is what it would be alone. Pure.

Kernels take other ways for other numbers of rows, and on CPUs some round otherwise then: repacked
K-quants from four rows on, f16 and f32 weights always, plain attention over an f16 cache always,
flash attention over more than 256 tokens of it when several threads share a single row. A
difference in the last bit soon is another text. So there a number of rows is used only when trials
gave the same logits, to the bit, as decoding one by one; later rows of a trial have read what the
earlier ones left in the cache, so that it is held to the same. What was found holds for a model, a
machine and its settings: ``known`` can be kept. A GPU is made for many rows and rounds otherwise;
there any number is used, and on a CPU where that is asked for, which is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

SHORT = 256  # tokens: attention is computed over multiples of it, by other ways for more
# Of kernels that round otherwise most differ in every row. The least that was seen, plain attention
# over f16 keys, agreed in six trials of two rows out of ten, and in one of four rows out of three:
# so many rows all agree by chance in one of 5,000 cases.
ENOUGH_ROWS = 32
CPU_WIDTHS = (2, 3, 4, 8)  # where kernels change their way; shorter drafts are filled up
ANY_WIDTHS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)

OTHERWISE = (
    "drafting where several tokens at once are rounded otherwise than one: where two tokens are "
    "all but as likely, the text can differ from that of --draft off --lookup off"
)
NEVER = (
    "this model is computed otherwise for several tokens at once, so nothing is drafted, and the "
    "text stays the same; --flash-attn on may allow it, --no-lossless does"
)
NOT_LONG = (
    "beyond 256 tokens nothing is drafted here, so that the text stays the same; --no-lossless "
    "allows it"
)
FORGETS_NOTHING = "nothing is drafted: this model keeps a state, which cannot take a draft back"


@dataclass(frozen=True)
class KnownWidths:
    """What trials found, in contexts of up to 256 tokens and in longer ones: the numbers of rows
    that are exact, and those of which it is not known yet. The others are not. ``_same`` says of
    those that are open how many rows agreed so far."""

    short_sure: tuple[int, ...] = ()
    short_open: tuple[int, ...] = CPU_WIDTHS
    long_sure: tuple[int, ...] = ()
    long_open: tuple[int, ...] = CPU_WIDTHS
    short_same: tuple[tuple[int, int], ...] = ()
    long_same: tuple[tuple[int, int], ...] = ()


class _Found:
    """What is known of one kind of contexts."""

    def __init__(
        self,
        sure: tuple[int, ...],
        not_tried: tuple[int, ...],
        same_rows: tuple[tuple[int, int], ...],
    ) -> None:
        self.sure = set(sure)
        self.open = set(not_tried)
        self.failed = len(self.sure | self.open) < len(CPU_WIDTHS)
        self._same_rows = Counter(dict(same_rows))

    @property
    def never(self) -> bool:
        return not self.sure and not self.open

    def note(self, width: int, n_rows: int, *, is_same: bool) -> None:
        if not is_same:
            self.open = {n for n in self.open if n < width}
            self.sure = {n for n in self.sure if n < width}
            # Where not even the fewest are the same, none are.
            self.open = set() if width == min(CPU_WIDTHS) else self.open
            self.failed = True
            return
        self._same_rows[width] += n_rows
        if self._same_rows[width] >= ENOUGH_ROWS:
            self.sure.add(width)
            self.open.discard(width)

    @property
    def same(self) -> tuple[tuple[int, int], ...]:
        return tuple((n, self._same_rows[n]) for n in sorted(self.open) if self._same_rows[n])

    def to_try(self) -> tuple[int, ...]:
        """Any, but after one has failed the fewest first."""
        fewest = min(CPU_WIDTHS)
        return (fewest,) if self.failed and fewest in self.open else tuple(sorted(self.open))


class Widths:
    """Numbers of rows, the token before the draft included: only exact ones where it must be
    ``lossless``. ``tell`` gets a line for the user, each once."""

    def __init__(
        self,
        *,
        lossless: bool,
        can_truncate: bool = True,
        known: KnownWidths | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.lossless, self._tell = lossless, tell
        self._told: set[str] = set()
        self._can_truncate = can_truncate
        known = known or KnownWidths()
        self._short = _Found(known.short_sure, known.short_open, known.short_same)
        self._long = _Found(known.long_sure, known.long_open, known.long_same)

    @property
    def never(self) -> bool:
        """Whether it is known that nothing can be drafted, which is told then."""
        if not self._can_truncate:
            self._say(FORGETS_NOTHING)
        elif self.lossless and self._short.never and self._long.never:
            self._say(NEVER)
        else:
            return False
        return True

    @property
    def known(self) -> KnownWidths:
        """What was found so far."""
        short, long = self._short, self._long
        return KnownWidths(
            tuple(sorted(short.sure)),
            tuple(sorted(short.open)),
            tuple(sorted(long.sure)),
            tuple(sorted(long.open)),
            short.same,
            long.same,
        )

    def sure(self, n_cached: int, most: int) -> tuple[int, ...]:
        """Those that may be used behind ``n_cached`` tokens, ``most`` at most."""
        if not self._can_truncate:
            self._say(FORGETS_NOTHING)
            return ()
        if not self.lossless:
            self._say(OTHERWISE)
            return tuple(n for n in ANY_WIDTHS if n <= most)
        return tuple(
            n
            for n in CPU_WIDTHS
            if self._may_be(n, n_cached, most) and n in self._of(n_cached + n).sure
        )

    def to_try(self, n_cached: int, most: int) -> tuple[int, ...]:
        """Those of which it is not known."""
        if not self.lossless or not self._can_truncate:
            return ()
        return tuple(
            n
            for n in CPU_WIDTHS
            if self._may_be(n, n_cached, most) and n in self._of(n_cached + n).to_try()
        )

    def note(self, n_cached: int, width: int, n_rows: int, *, is_same: bool) -> None:
        """``n_rows`` of a batch of ``width`` rows were compared."""
        found = self._of(n_cached + width)
        found.note(width, n_rows, is_same=is_same)
        if found.never:
            self._say(NOT_LONG if found is self._long and not self._short.never else NEVER)

    def _may_be(self, width: int, n_cached: int, most: int) -> bool:
        """No batch reaches from a short context into a long one."""
        return width <= most and self._of(n_cached + 1) is self._of(n_cached + width)

    def _of(self, n_tokens: int) -> _Found:
        return self._long if n_tokens > SHORT else self._short

    def _say(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._tell(line)
