"""What drafts for an engine, from its first answer to its last: what was learned of costs and of
acceptance stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fwlocal.draft.controller import Controller
from fwlocal.draft.drafter import Drafter
from fwlocal.draft.lookup import PromptLookup
from fwlocal.draft.model import DraftModel
from fwlocal.draft.speculation import Cache, Sampler, Speculation, Steering
from fwlocal.draft.widths import KnownWidths, Widths


class Drafting:
    """``lookup`` drafts from the text itself, ``model`` from a smaller model, which is closed with
    this. ``learned`` gets at the end what was found out about exact numbers of rows, if anything
    was."""

    def __init__(
        self,
        steering: Steering,
        *,
        lookup: bool = False,
        model: DraftModel | None = None,
        learned: Callable[[KnownWidths], None] = lambda known: None,
    ) -> None:
        self._steering, self._lookup, self._model = steering, lookup, model
        self._learned, self._known = learned, steering.widths.known

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
        if (known := self._steering.widths.known) != self._known:
            self._known = known
            self._learned(known)
