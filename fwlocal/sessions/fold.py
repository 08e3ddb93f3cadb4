"""The turns that a session's events leave, as ``fwlocal.conversation`` has them.

Where the events come from, it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fwlocal.prompts import Message, Role
from fwlocal.sessions.events import Event, Said

CUT_OFF = "cut off"  # the finish reason of an answer that was never ended
UNFINISHED = ("length", "interrupt", CUT_OFF)  # what was said may go on just there


class OutOfPlace(Exception):
    """An event that cannot have happened where it stands."""


@dataclass(frozen=True)
class Turn:
    """One turn that counts; ``said`` is of an answer."""

    role: Role
    text: str
    time: str = ""
    said: Said | None = None

    @property
    def message(self) -> Message:
        """The turn as the prompt has it, and as ``fwlocal.answer.Result`` has an answer."""
        is_whole = self.role == "assistant" and not self.is_unfinished
        return Message(self.role, self.text.rstrip() if is_whole else self.text)

    @property
    def is_unfinished(self) -> bool:
        """Whether it is an answer that did not come to its own end."""
        return self.said is not None and self.said.finish_reason in UNFINISHED


@dataclass
class Fold:
    """The turns that events leave, as ``fwlocal.conversation`` has them."""

    system: str | None = None
    turns: list[Turn] = field(default_factory=list)
    unanswered: str | None = None
    _question: Turn | None = None
    _goes_on: bool = False  # the last answer does
    _pieces: list[Event] = field(default_factory=list)
    _replaced: list[Turn] = field(default_factory=list)

    @property
    def is_answering(self) -> bool:
        """Whether pieces may come."""
        return self._question is not None or self._goes_on

    def take(self, event: Event) -> None:
        """Let ``event`` happen. Raises OutOfPlace, and it counts for nothing then."""
        _STEPS[event.kind](self, event)

    def end(self) -> None:
        """An answer that was begun has ended, however that came about."""
        if not self.is_answering:
            return
        if not self._pieces:
            self._take_back()
            return
        text, since = "".join(piece.text for piece in self._pieces), self._pieces[0].time
        if self._goes_on:
            before = self.turns[-1].said or Said()
            self._add(text, replace(before, completion_tokens=0, finish_reason=CUT_OFF))
        else:
            self._answer(Turn("assistant", text, since, Said(finish_reason=CUT_OFF)))

    def _ask(self, question: Turn) -> None:
        self._question, self.unanswered, self._pieces, self._replaced = question, None, [], []

    def _answer(self, answer: Turn) -> None:
        if self._question is None:
            raise OutOfPlace("an answer to nothing")
        self.turns += [self._question, answer]
        self._question = None

    def _add(self, text: str, said: Said, n_dropped: int = 0) -> None:
        """To the last answer, whose facts are then those of its end."""
        before = self.turns[-1]
        n_before = before.said.completion_tokens if before.said else 0
        said = replace(said, completion_tokens=n_before + said.completion_tokens)
        content = before.message.content
        kept = content[: max(0, len(content) - n_dropped)]
        self.turns[-1] = replace(before, text=kept + text, said=said)
        self._goes_on = False

    def _take_back(self) -> None:
        if not self.is_answering:
            raise OutOfPlace("taking back nothing")
        if self._goes_on:
            self._goes_on = False
            return
        if self._replaced:
            self.turns += self._replaced
        elif self._question is not None:
            self.unanswered = self._question.text
        self._question = None

    def _user(self, event: Event) -> None:
        self.end()
        self._ask(Turn("user", event.text, event.time))

    def _retry(self, event: Event) -> None:
        """Again, or in other words if the event has any."""
        self.end()
        if self.unanswered is None and not self.turns:
            raise OutOfPlace("asking nothing again")
        replaced = self.turns[-2:] if self.unanswered is None else []
        text = replaced[0].text if replaced else self.unanswered or ""
        del self.turns[len(self.turns) - len(replaced) :]
        self._ask(Turn("user", event.text or text, event.time))
        self._replaced = replaced

    def _piece(self, event: Event) -> None:
        if not self.is_answering:
            raise OutOfPlace("a piece of no answer")
        self._pieces.append(event)

    def _assistant(self, event: Event) -> None:
        self._answer(Turn("assistant", event.text, event.time, event.said))

    def _continue(self, event: Event) -> None:
        self.end()
        if not self.turns:
            raise OutOfPlace("going on with nothing")
        self._goes_on, self._pieces = True, []

    def _continued(self, event: Event) -> None:
        if not self._goes_on:
            raise OutOfPlace("more of no answer")
        self._add(event.text, event.said or Said(), event.n_dropped)

    def _unanswered(self, event: Event) -> None:
        self._take_back()

    def _undo(self, event: Event) -> None:
        self.end()
        if event.n_turns > len(self.turns) // 2:
            raise OutOfPlace("undoing more than there is")
        del self.turns[-2 * event.n_turns :]
        self.unanswered = None

    def _system(self, event: Event) -> None:
        self.system = event.text


_STEPS: Mapping[str, Callable[[Fold, Event], None]] = {
    "user": Fold._user,
    "retry": Fold._retry,
    "edit": Fold._retry,
    "piece": Fold._piece,
    "assistant": Fold._assistant,
    "continue": Fold._continue,
    "continued": Fold._continued,
    "unanswered": Fold._unanswered,
    "undo": Fold._undo,
    "system": Fold._system,
}
