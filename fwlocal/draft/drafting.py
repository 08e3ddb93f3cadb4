"""What drafts for an engine, from its first answer to its last: what was learned of costs and of
acceptance stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fwlocal.draft.controller import Controller
from fwlocal.draft.drafter import Drafter
from fwlocal.draft.lookup import PromptLookup
from fwlocal.draft.model import DraftModel
from fwlocal.draft.speculation import Cache, Sampler, Speculation, Steering
from fwlocal.draft.widths import KnownWidths, Widths

_NEWS = 0.25  # a cost that differs by less is not worth a file's writing


class Drafting:
    """``lookup`` drafts from the text itself, ``model`` from a smaller model, which is closed with
    this. ``learned`` gets at the end what was found out about several rows at once, if anything
    was: which numbers of them are exact, and what they cost, beside ``costs``."""

    def __init__(
        self,
        steering: Steering,
        *,
        lookup: bool = False,
        model: DraftModel | None = None,
        costs: Mapping[int, float] | None = None,
        learned: Callable[[KnownWidths, Mapping[int, float]], None] = lambda known, costs: None,
    ) -> None:
        self._steering, self._lookup, self._model = steering, lookup, model
        self._learned, self._known = learned, steering.widths.known
        self._costs = dict(costs or {})

    @classmethod
    def off(cls) -> Drafting:
        """Nothing is drafted."""
        return cls(Steering(Controller(), Widths(lossless=True)))

    def speculation(
        self,
        cache: Cache,
        sampler: Sampler,
        prompt: Sequence[int],
        *,
        limit: int,
        is_eog: Callable[[int], bool],
    ) -> Speculation:
        """One answer's, its drafters ready. What the text repeats is asked first: that is free."""
        drafters: list[Drafter] = [PromptLookup()] if self._lookup else []
        drafters += [self._model] if self._model is not None else []
        speculation = Speculation(
            cache, sampler, prompt, drafters, self._steering, limit=limit, is_eog=is_eog
        )
        speculation.prepare()
        return speculation

    @property
    def has_model(self) -> bool:
        """Whether a model drafts."""
        return self._model is not None

    def close(self) -> None:
        """Free the model that drafts."""
        model, self._model = self._model, None
        if model is not None:
            model.close()
        known, costs = self._steering.widths.known, self._steering.controller.costs.measured
        if known != self._known or any(self._is_news(*cost) for cost in costs.items()):
            self._known, self._costs = known, {**self._costs, **costs}
            self._learned(known, self._costs)

    def _is_news(self, rows: int, cost: float) -> bool:
        """Not known yet, or known to be quite different."""
        before = self._costs.get(rows)
        return before is None or abs(cost / before - 1) > _NEWS
