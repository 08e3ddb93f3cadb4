"""How many tokens to draft: as many as bring the most tokens per second by what was measured. Pure.

Expected tokens come from the acceptance so far, seconds from the costs so far (``acceptance``,
``costs``); where nothing beats decoding one by one, nothing is drafted, but tried again now and
then. Whatever the text does, an answer's account keeps what drafting may lose small: a batch is
drafted only if the account would bear that all of it is wrong, and the less it promises by what is
known, the less it may risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fwlocal.draft.acceptance import Acceptance
from fwlocal.draft.costs import Costs
from fwlocal.draft.drafter import Kind

# What a further row costs, before it was measured: 4 rows take 1.9 to 3 times one row's time on
# CPUs, by the weights' type; on GPUs a few rows are all but free.
CPU_ROW_COST, GPU_ROW_COST = 0.4, 0.04

LEAST_GAIN = 1.03  # of decoding one by one; less is not worth the risk
TRIAL_GAIN = 1.15  # what a number of rows must promise before it is tried whether they are exact
LEAST_EVIDENCE = 6  # drafted tokens whose fate is known, before such a trial
# Decodes of one token that an answer may lose: of 200 tokens 2.4 %, which leaves a little for what
# is measured badly.
_LOSS, _LOSS_SHARE = 4.8, 0.02
_TRIAL_LOSS = 5.5  # with trials of what is exact, which are made once for all
# What may be risked of what is left of it, by what promises next to nothing, and so much or more.
_LEAST_RISK, _MOST_RISK, _FULL_GAIN = 0.25, 0.75, 1.4
_CREDIT = 4.0  # gains that may be lost again
_WATCHED = 0.25  # what a gain counts that a draft would have brought, if it had been evaluated
_FIRST_PATIENCE, _MOST_PATIENCE = 32, 512  # tokens without a draft, before it is tried again
_PROBED_GAIN = 0.6  # a draft that promises less is not even tried again
_BEHIND = 0.5  # what a token costs a draft model that evaluates several


class _Known:
    """What is known of one kind of drafts."""

    def __init__(self, kind: Kind) -> None:
        self.acceptance = Acceptance(kind.prior)  # of what was drafted
        self.asked = Acceptance(kind.prior)  # of what was asked for: drafts may come out shorter
        self.n_idle = 0  # tokens since a draft was evaluated
        self.n_behind = 0  # tokens that a draft model has not seen
        self.patience = _FIRST_PATIENCE

    def drafted(self, *, pays: bool) -> None:
        if pays:
            self.patience = _FIRST_PATIENCE
        elif self.n_idle >= self.patience:
            self.patience = min(2 * self.patience, _MOST_PATIENCE)
        self.n_idle = 0


class Controller:
    """One for all answers of a model in a context; ``begin`` starts each. All seconds are readings
    of the caller's clock. ``row_cost`` is what a further row costs before it was measured, and
    ``known`` what batches cost in another process."""

    def __init__(
        self, row_cost: float = CPU_ROW_COST, known: Mapping[int, float] | None = None
    ) -> None:
        self.costs = Costs(row_cost, known)
        self._kinds: dict[str, _Known] = {}
        self.begin()

    def begin(self) -> None:
        """A new answer: what was lost on others does not count."""
        self._account = 0.0  # decodes of one token that were saved so far
        self._tried = 0.0  # what trials took of it
        self._n_tokens = 0

    def n_to_draft(self, kind: Kind, widths: Sequence[int]) -> int:
        """How many tokens to have drafted where drafting takes time, for a batch of one of
        ``widths`` rows; 0 for none."""
        per_token = self.costs.draft(kind.name)
        if self.costs.single_s is None or per_token is None or self.costs.is_suspect:
            return 0
        known = self._known(kind)
        best_gain, best = 0.0, 0
        for width in widths:
            cost = (width - 1) * per_token + self.costs.batch(width)
            gain = (1 + known.asked.expected(width - 1)) / cost
            late = known.n_behind * per_token * _BEHIND
            worst = (width - 1) * per_token + late + self.costs.worst_batch(width)
            if gain > best_gain and self._bears(worst - 1, gain, known):
                best_gain, best = gain, width - 1
        return best if self._is_worth(known, best_gain) else 0

    def n_to_try(self, kind: Kind, widths: Sequence[int]) -> int:
        """The same where no number of rows is known to be exact: first to see how often the drafts
        are right, then for a trial."""
        per_token = self.costs.draft(kind.name)
        if per_token is None:
            return 0
        known = self._known(kind)
        if known.acceptance.n_seen < LEAST_EVIDENCE:
            n_tokens = max(widths) - 1
            return n_tokens if self._bears(n_tokens * per_token, _FULL_GAIN, known) else 0
        return max((n - 1 for n in widths if self._pays(known, n, per_token)), default=0)

    def _pays(self, known: _Known, width: int, per_token: float) -> bool:
        drafts = (width - 1) * per_token
        gain = (1 + known.asked.expected(width - 1)) / (drafts + self.costs.batch(width))
        return gain >= TRIAL_GAIN and self._bears_trial(width, drafts)

    def n_rows(self, kind: Kind, n_drafted: int, widths: Sequence[int]) -> int:
        """How many rows to evaluate at once, for a token and the ``n_drafted`` that are there; 1
        where they are better left alone."""
        known = self._known(kind)
        if self.costs.single_s is None or self.costs.is_suspect:
            return 1
        best_gain, best = 0.0, 1
        for width in widths:
            gain, worst = self.gain(kind, n_drafted, width), self.costs.worst_batch(width)
            if gain > best_gain and self._bears(worst - 1, gain, known):
                best_gain, best = gain, width
        return best if self._is_worth(known, best_gain) else 1

    def gain(self, kind: Kind, n_drafted: int, width: int) -> float:
        """How many times the tokens per second of decoding one by one such a batch promises."""
        n_right = self._known(kind).acceptance.expected(min(n_drafted, width - 1))
        return (1 + n_right) / self.costs.batch(width)

    def deserves_trial(self, kind: Kind, n_drafted: int, width: int, otherwise: int) -> bool:
        """Whether it may be tried if ``width`` rows are exact, where ``otherwise`` rows would be
        evaluated: a trial costs as much as the batch, and brings nothing yet."""
        if self._known(kind).acceptance.n_seen < LEAST_EVIDENCE or self.costs.single_s is None:
            return False
        least = max(1.0, self.gain(kind, n_drafted, otherwise) if otherwise > 1 else 1.0)
        is_enough = self.gain(kind, n_drafted, width) >= TRIAL_GAIN * least
        return is_enough and self._bears_trial(width)

    def decoded(self, seconds: float) -> None:
        """A token was decoded alone."""
        self.costs.note_single(seconds)
        self._said(1)

    def prepared(self, kind: Kind, token_s: float) -> None:
        """A draft model is ready, and takes so long for a token."""
        self.costs.note_draft(kind.name, 1, token_s)
        self._known(kind).n_behind = 0

    def drafted(self, kind: Kind, n_tokens: int, seconds: float) -> None:
        """So many tokens were drafted, which took so long."""
        self.costs.note_draft(kind.name, n_tokens, seconds)
        self._known(kind).n_behind = 0
        self._spend(seconds)

    def evaluated(self, kind: Kind, width: int, n_tokens: int, seconds: float) -> None:
        """A batch of ``width`` rows gave ``n_tokens`` of the answer."""
        self.costs.note_batch(width, seconds)
        self._spend(seconds)
        self._account = min(self._account + n_tokens, _CREDIT)
        self._known(kind).drafted(pays=n_tokens >= self.costs.batch(width))
        self._said(n_tokens)

    def tried(self, width: int, seconds: float) -> None:
        """A batch was evaluated only to see whether it is exact."""
        self.costs.note_batch(width, seconds)
        before = self._account
        self._spend(seconds)
        self._tried += before - self._account

    def learned(self, kind: Kind, n_asked: int, n_drafted: int, n_right: int) -> None:
        """So many tokens of a draft were right, evaluated or not."""
        self._known(kind).acceptance.note(n_drafted, n_right)
        self._known(kind).asked.note(n_asked, n_right)

    def watched(self, kind: Kind, n_asked: int, n_drafted: int, n_right: int) -> None:
        """The same of a draft that was there, and was not evaluated. Where such drafts promise
        much, those that would have paid bring what was lost back by and by: otherwise an early loss
        would end all drafting."""
        self.learned(kind, n_asked, n_drafted, n_right)
        missed = n_right + 1 - self.costs.batch(n_drafted + 1)
        promises = self.gain(kind, n_drafted, n_drafted + 1) >= TRIAL_GAIN
        if promises and missed > 0:  # what trials take is never brought back
            self._account = max(min(self._account + _WATCHED * missed, -self._tried), self._account)

    def _known(self, kind: Kind) -> _Known:
        if kind.name not in self._kinds:
            self._kinds[kind.name] = _Known(kind)
        return self._kinds[kind.name]

    def _said(self, n_tokens: int) -> None:
        self._n_tokens += n_tokens
        for known in self._kinds.values():
            known.n_idle += n_tokens
            known.n_behind += n_tokens

    def _spend(self, seconds: float) -> None:
        if self.costs.single_s is not None and seconds > 0:
            self._account -= seconds / self.costs.single_s

    def _bears(self, loss: float, gain: float, known: _Known) -> bool:
        """Whether the account may lose so many decodes more, for what promises such a gain. It is
        a part of what is left, so that some is left for shorter drafts. Where next to nothing is
        known yet, or not for a long time, a promise does not count."""
        left = self._account + max(_LOSS, _LOSS_SHARE * self._n_tokens)
        is_open = known.acceptance.n_seen < LEAST_EVIDENCE or known.n_idle >= known.patience
        promise = 1.0 if is_open else min(max((gain - 1) / (_FULL_GAIN - 1), 0.0), 1.0)
        return loss <= left * (_LEAST_RISK + (_MOST_RISK - _LEAST_RISK) * promise)

    def _bears_trial(self, width: int, drafts: float = 0.0) -> bool:
        return self._account - drafts - self.costs.worst_batch(width) >= -_TRIAL_LOSS

    def _is_worth(self, known: _Known, gain: float) -> bool:
        return gain >= LEAST_GAIN or (known.n_idle >= known.patience and gain >= _PROBED_GAIN)
