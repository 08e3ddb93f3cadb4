"""How many sequences may be decoded at once so that each gets the logits of being alone. Pure.

Kernels take other ways for other numbers of rows, and some round otherwise then: those of f16 and
f32 weights, of repacked K-quants from four rows on, flash attention on the CPU over more than 256
tokens when a row is alone, most of what GPUs do. A difference in the last bit soon is another text.
So the first steps of a new kind are computed both ways, and what they show is remembered here.
"""

from __future__ import annotations

from collections import Counter

SHORT = 256  # tokens: llama.cpp computes attention over multiples of it, by other ways for more
# Of a kernel that rounds otherwise, four rows in ten differ in some bit of their logits (Q4_K on
# AVX2): as many as these never all agree by chance.
ENOUGH_ROWS = 32
_NARROWER = (7, 4, 3, 2)  # tried when all at once are not the same


class _Found:
    """What is known of sequences of one kind: ``sure`` rows at once are the same; ``candidates``
    are those still to be tried, the most first."""

    def __init__(self, n_lanes: int) -> None:
        halves = {n_lanes >> shift for shift in range(n_lanes.bit_length())}
        narrower = {n for n in (*halves, *_NARROWER) if 2 <= n <= n_lanes}
        self.sure = 1
        self.candidates = sorted(narrower, reverse=True)
        self.same_rows: Counter[int] = Counter()

    @property
    def never(self) -> bool:
        """Whether not even two are the same."""
        return self.sure == 1 and not self.candidates

    def note(self, width: int, *, is_same: bool) -> None:
        """Take in one trial."""
        if not is_same:
            self.candidates = [n for n in self.candidates if n < width]
            return
        self.same_rows[width] += width
        if self.same_rows[width] >= ENOUGH_ROWS:
            self.sure = max(self.sure, width)
            self.candidates = [n for n in self.candidates if n > width]


class Together:
    """What was found for sequences of up to 256 tokens, and for longer ones.

    ``on_cpu``: there, those that differ go one at a time. A GPU is made for many rows; where it
    rounds otherwise, all are decoded together, and ``is_exact`` is False. So it is from the
    beginning where nothing can be tried, ``can_try`` being False.
    """

    def __init__(self, n_lanes: int, *, on_cpu: bool, can_try: bool = True) -> None:
        self.is_exact = can_try or on_cpu
        self._on_cpu = on_cpu
        n_tried = n_lanes if can_try else 1
        self._short, self._long = _Found(n_tried), _Found(n_tried)

    @property
    def all_alone(self) -> bool:
        """Whether even short ones go one at a time."""
        return self.is_exact and self._short.never

    @property
    def long_alone(self) -> bool:
        """Whether long ones go one at a time."""
        return self.is_exact and self._long.never

    def width(self, n_tokens: int, n_ready: int) -> tuple[int, bool]:
        """How many of ``n_ready`` sequences, the longest of ``n_tokens``, to decode at once; and
        whether that has to be tried first."""
        if not self.is_exact:
            return n_ready, False
        found = self._of(n_tokens)
        if not found.candidates or n_ready <= found.sure:
            return min(found.sure, n_ready), False
        return min(found.candidates[0], n_ready), True

    def note(self, n_tokens: int, width: int, *, is_same: bool) -> None:
        """It was tried."""
        self._of(n_tokens).note(width, is_same=is_same)
        if not self._on_cpu and (self._short.never or self._long.never):
            self.is_exact = False

    def same_kind(self, n_tokens: int, other: int) -> bool:
        """Whether sequences of both lengths may be in one batch."""
        return not self.is_exact or self._of(n_tokens) is self._of(other)

    def _of(self, n_tokens: int) -> _Found:
        return self._long if n_tokens > SHORT else self._short
