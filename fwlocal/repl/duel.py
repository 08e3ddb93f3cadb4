"""Two models answer in a chat, and the user picks one of the answers: who is loaded when.

The one that answers the chat stays loaded if there is room for all; whatever happens, one is loaded
afterwards. What becomes of the conversation, this module does not know.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from fwlocal.ab.contest import Contest, Entry, Joint, Terms
from fwlocal.ab.room import Room, is_squeezed, room_for
from fwlocal.ab.sides import Side
from fwlocal.ab.views import Stacked, View, view_for
from fwlocal.answer import Result
from fwlocal.errors import DoesNotFit, Interrupted
from fwlocal.loader import LoadedModel
from fwlocal.loader.isolation import IsolatedEngine
from fwlocal.prompts import Message
from fwlocal.repl.command import Sitting
from fwlocal.repl.room import max_tokens

IN_TURN_NOTE = "There is no room for both at once: they answer one after the other."
ALONE_NOTE = "Each has the workers to itself: they answer one after the other."

_PICKS = {"a": "1", "b": "2"}

Available = Callable[[], int]


class _TooTight(Exception):
    """Both at once do not fit after all."""


class Duel:
    """One ``/ab``: who is loaded when, and the pick. ``ending`` is what to say where none is
    picked."""

    def __init__(
        self,
        sitting: Sitting,
        sides: tuple[Side, Side],
        messages: tuple[Message, ...],
        available: Available,
    ) -> None:
        self._sitting, self._sides, self._messages = sitting, sides, messages
        self._available = available
        self._terms = Terms(sitting.engine.sampling.seeded(), max_tokens(sitting))
        self.ending = ""

    def held(self) -> tuple[Side, Result] | None:
        """Have both answer, and the user pick; the one that is picked is the chat's model then.
        Raises FwlocalError; all is as before then."""
        room = self._room()
        if room is not Room.IN_TURN:
            try:
                return self._together(room)
            except _TooTight:
                pass
        apart = isinstance(self._sitting.engine, IsolatedEngine)
        self._sitting.screen.note(ALONE_NOTE if apart else IN_TURN_NOTE)
        return self._in_turn()

    def _room(self) -> Room:
        loaded = self._sitting.loaded
        if isinstance(loaded.engine, IsolatedEngine):
            return Room.IN_TURN  # its process does not wait, and workers are shared
        new = [side for side in self._sides if not side.is_loaded]
        sizes = [side.size_bytes for side in new]
        return room_for(sizes, loaded.plan, self._available(), may_leave=len(new) == 2)

    def _together(self, room: Room) -> tuple[Side, Result] | None:
        sitting = self._sitting
        with contextlib.ExitStack() as stack:
            before = sitting.loaded
            if room is Room.INSTEAD:
                stack.enter_context(sitting.release())
            try:
                models = [stack.enter_context(self._at_hand(side)) for side in self._sides]
            except DoesNotFit as error:
                raise _TooTight from error
            if is_squeezed([model.plan for model in models], before.plan):
                raise _TooTight
            self._tell_limits(self._sides, [model.engine.limit for model in models])
            contest, joint = self._contest(self._sides, None), self._joint(models)
            with self._answering():
                contest.together([model.engine for model in models], joint)
            picked = self._picked(self._sides, contest, joint)
            if picked is not None and not picked[0].is_loaded:
                sitting.replace(models[self._sides.index(picked[0])])
            return picked

    def _in_turn(self) -> tuple[Side, Result] | None:
        """The one that is loaded first, so that nothing is loaded for it."""
        sitting = self._sitting
        sides = sorted(self._sides, key=lambda side: not side.is_loaded)
        first, second = sides
        screen = sitting.screen
        view = Stacked(screen.write, screen.width, color=screen.color)
        contest = self._contest(sides, view)
        with contextlib.ExitStack() as stack:
            if not first.is_loaded:
                stack.enter_context(sitting.release())
            with self._at_hand(first) as model:
                limit = model.engine.limit
                joint = self._answer_alone(contest, 0, model)
            if joint.is_set():
                return self._picked(sides, contest, joint)
            if first.is_loaded:
                stack.enter_context(sitting.release())
            with self._at_hand(second) as model:
                self._tell_limits(sides, [limit, model.engine.limit])
                joint = self._answer_alone(contest, 1, model)
                picked = self._picked(sides, contest, joint)
                if picked is not None and picked[0] is second:
                    sitting.replace(model)
            if picked is not None and picked[0] is first and not first.is_loaded:
                sitting.replace(sitting.load(first.model, first.prompt_format))
            return picked

    def _answer_alone(self, contest: Contest, index: int, model: LoadedModel) -> Joint:
        joint = self._joint([model])
        with self._answering():
            contest.one(index, model.engine, joint)
        return joint

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        state = self._sitting.state
        state.at_work = self._sitting.engine.interrupt
        try:
            with self._sitting.screen.answering():
                yield
        finally:
            state.at_work = None

    @contextlib.contextmanager
    def _at_hand(self, side: Side) -> Iterator[LoadedModel]:
        """Its model: the chat's own, or one that is freed at the end unless the chat took it."""
        sitting = self._sitting
        if side.is_loaded:
            yield sitting.loaded
            return
        loaded = sitting.load(side.model, side.prompt_format)
        try:
            yield loaded
        finally:
            if sitting.loaded is not loaded:
                loaded.engine.close()

    def _contest(self, sides: Sequence[Side], view: View | None) -> Contest:
        loaded, screen = self._sitting.loaded, self._sitting.screen
        bare = tuple(replace(message, tokens=()) for message in self._messages)
        entries = [
            Entry(
                side.label,
                side.size_bytes,
                self._messages if side.header.has_tokens_of(loaded.header) else bare,
            )
            for side in sides
        ]
        view = view or view_for(screen.write, screen.width, color=screen.color)
        same_tokens = sides[0].header.has_tokens_of(sides[1].header)
        return Contest(entries, self._terms, view, same_tokens=same_tokens)

    def _joint(self, models: Sequence[LoadedModel]) -> Joint:
        """Stops all of them, and is heard by the chat too."""
        own = self._sitting.engine.interrupt
        return Joint([own, *(model.engine.interrupt for model in models)])

    def _tell_limits(self, sides: Sequence[Side], limits: Sequence[int]) -> None:
        """Say where a context is smaller."""
        small, large = sorted(zip(limits, sides, strict=True), key=lambda pair: pair[0])
        if small[0] < large[0]:
            self._sitting.screen.note(
                f"The context of {small[1].label} holds {small[0]} tokens, that of "
                f"{large[1].label} {large[0]}."
            )

    def _picked(
        self, sides: Sequence[Side], contest: Contest, joint: Joint
    ) -> tuple[Side, Result] | None:
        """The answer that the user takes, None for neither. Raises Interrupted when the process is
        terminated."""
        if joint.signal not in (None, signal.SIGINT):
            raise Interrupted("terminated", exit_code=joint.exit_code)
        said = {
            str(index + 1): (side, result)
            for index, (side, result) in enumerate(zip(sides, contest.results, strict=True))
            if result is not None and result.text.strip()
        }
        if not said:
            self.ending = "(stopped)" if joint.is_set() else "Neither of them said anything."
            return None
        prompt = f"{' or '.join(said)}, or Enter for neither: "
        while True:
            try:
                typed = self._sitting.screen.ask_line(prompt).strip().lower()
            except (EOFError, KeyboardInterrupt):
                self._sitting.screen.write("\n")
                return None
            if not typed:
                return None
            if (picked := said.get(_PICKS.get(typed, typed))) is not None:
                return picked
            self._sitting.screen.note(f"It is {' or '.join(said)}, or Enter alone.")
