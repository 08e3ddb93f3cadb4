"""Two engines answer one question: alternately, a piece each in turn, or one after the other.

The view shows what they say, the parting says what is marked in it. Where the engines come from,
and what becomes of the answers, it does not know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fwlocal.ab.facts import Spoken, agreement, facts
from fwlocal.ab.parting import Parting, Shown
from fwlocal.ab.views import View
from fwlocal.answer import Generation, Result
from fwlocal.engine import EngineLike
from fwlocal.errors import FwlocalError, Interrupted, WorkerLost
from fwlocal.interrupts import Interrupt, catching
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams


@dataclass(frozen=True)
class Terms:
    """How both answer; ``sampling`` has its seed."""

    sampling: SamplingParams
    max_tokens: int | None = None


@dataclass(frozen=True)
class Entry:
    """Who answers, as it is told of, and what it is asked; ``size_bytes`` are its files'."""

    label: str
    size_bytes: int
    messages: tuple[Message, ...]


class Joint(Interrupt):
    """Sets several interrupts at once, and is set when one of them is."""

    def __init__(self, members: Sequence[Interrupt]) -> None:
        super().__init__()
        self._members = tuple(members)

    def set(self, signum: int = 2) -> None:
        """Ask all to stop."""
        super().set(signum)
        for member in self._members:
            member.set(signum)

    def clear(self) -> None:
        """Forget it, before new work."""
        super().clear()
        for member in self._members:
            member.clear()

    def spread(self) -> None:
        """Where one was set by somebody else, set all."""
        for member in self._members:
            if self.signal is None and member.signal is not None:
                self.set(member.signal)


class Contest:
    """One question to two engines, which ``view`` shows; ``same_tokens``: their vocabularies are
    the same. ``results`` are there once both have answered, or the one that was asked so far."""

    def __init__(
        self, entries: Sequence[Entry], terms: Terms, view: View, *, same_tokens: bool
    ) -> None:
        self.entries, self.terms = tuple(entries), terms
        self.results: list[Result | None] = [None, None]
        self._view, self._same_tokens = view, same_tokens
        self._parting = Parting()
        self._is_told = [False, False]
        self._is_in_turn = False

    def together(self, engines: Sequence[EngineLike], joint: Joint) -> None:
        """Both at once, alternately. Raises FwlocalError, which names the one that failed."""
        generations: list[Generation] = []
        with self._shown(joint), contextlib.ExitStack() as closing:
            for side, engine in enumerate(engines):
                with self._named(side):
                    generations.append(self._start(side, engine))
                closing.callback(generations[side].close)
            self._view.begin([entry.label for entry in self.entries])
            sides = [0, 1]
            while sides:
                for side in tuple(sides):
                    joint.spread()
                    with self._named(side):
                        piece = next(generations[side], None)
                    if piece is None:
                        sides.remove(side)
                    self._take(side, piece, generations[side])

    def one(self, side: int, engine: EngineLike, joint: Joint) -> None:
        """One of them; the first, side 0, before the second. Raises FwlocalError."""
        self._is_in_turn = True
        with self._shown(joint), contextlib.ExitStack() as closing:
            with self._named(side):
                generation = self._start(side, engine)
            closing.callback(generation.close)
            if side == 0:
                self._view.begin([entry.label for entry in self.entries])
            piece: str | None = ""
            while piece is not None:
                joint.spread()
                with self._named(side):
                    piece = next(generation, None)
                self._take(side, piece, generation)

    def _start(self, side: int, engine: EngineLike) -> Generation:
        """Nothing that was evaluated before is reused: both take the same time for the prompt, and
        the very same numbers come out of it, which they do not where it was cut otherwise."""
        messages, terms = self.entries[side].messages, self.terms
        engine.reset()
        return engine.chat(messages, sampling=terms.sampling, max_tokens=terms.max_tokens)

    @contextlib.contextmanager
    def _shown(self, joint: Joint) -> Iterator[None]:
        """Ctrl-C stops all; whatever ends it, the screen is left at the start of a line."""
        joint.clear()
        try:
            with catching(joint, patient=True):
                yield
        except BaseException:
            self._view.leave()
            raise

    @contextlib.contextmanager
    def _named(self, side: int) -> Iterator[None]:
        """An error says whose it is."""
        try:
            yield
        except Interrupted:
            raise
        except WorkerLost as error:
            raise FwlocalError(f"{self.entries[side].label}: {error.lost} ask again") from error
        except FwlocalError as error:
            raise FwlocalError(f"{self.entries[side].label}: {error}") from error

    def _take(self, side: int, piece: str | None, generation: Generation) -> None:
        """A piece of a side, or its end."""
        if piece is None:
            self.results[side] = generation.result
            cut = generation.result.finish_reason != "stop"
            shown = self._parting.end(side, cut=cut)
        else:
            shown = self._parting.add(side, piece)
        if self._is_in_turn:  # the first is shown as it comes: nothing is known yet of the second
            shown = [one for one in shown if one.side == side == 1]
            shown += [Shown(0, piece)] if side == 0 and piece else []
        for one in shown:
            self._view.text(one.side, one.text, marked=one.marked)
        self._tell()

    def _tell(self) -> None:
        """Put the facts under what has ended, and in the end how far both are the same."""
        for side, result in enumerate(self.results):
            is_shown = self._is_in_turn or not self._parting.holds(side)
            if result is not None and is_shown and not self._is_told[side]:
                self._is_told[side] = True
                self._view.end(side, self._facts(side, result))
        if all(self._is_told):
            self._view.close(self._conclusion())

    def _facts(self, side: int, result: Result) -> list[str]:
        entry, first = self.entries[side], self.entries[0]
        lines = facts(entry.label, entry.size_bytes, result)
        word = self._parting.marked[0].strip()
        if self._is_in_turn and side == 1 and word:  # it was shown before it could be marked
            lines.append(f"where {first.label} says «{word}»")
        return lines

    def _conclusion(self) -> list[str]:
        """For each side."""
        texts, spoken = self._parting.texts, list[Spoken]()
        for text, result in zip(texts, self.results, strict=True):
            if result is not None:
                spoken.append(Spoken(text, result.tokens, result.completion_tokens))
        return [
            agreement(own, other, self._parting.difference, same_tokens=self._same_tokens)
            for own, other in (spoken, reversed(spoken))
        ]
