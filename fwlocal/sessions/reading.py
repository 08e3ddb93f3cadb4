"""From the bytes of a session's file to a conversation: what is whole is kept, the rest is named.

A file may be cut in the middle of a line, or edited by hand into nonsense. A line that says
nothing, or nothing that makes sense where it stands, is set aside; all others count. An answer that
was never ended is as long as its pieces; the pieces of one that was are not looked at.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fwlocal.conversation import Conversation
from fwlocal.sessions.events import (
    Event,
    Header,
    NewerFormat,
    Nonsense,
    Speaker,
    decode,
    encode,
    is_piece,
)
from fwlocal.sessions.fold import Fold, OutOfPlace, Turn

MAX_NAMED = 3


@dataclass(frozen=True)
class Damage:
    """A line that was set aside: its number from 1, what is wrong, its bytes, and whether they are
    no event at all, and not only one out of place."""

    number: int
    what: str
    data: bytes
    is_illegible: bool = True


@dataclass(frozen=True)
class Session:
    """What a file says. ``header`` is None where it is missing; ``events`` are all but the pieces
    of answers that were ended; ``sound`` are the lines that count, as they stand in the file."""

    header: Header | None
    events: tuple[Event, ...]
    turns: tuple[Turn, ...]
    system: str | None
    unanswered: str | None
    damages: tuple[Damage, ...] = ()
    sound: tuple[bytes, ...] = ()

    @property
    def speaker(self) -> Speaker:
        """Who answered last, or was to."""
        answers = [turn.said for turn in self.turns if turn.said and turn.said.speaker.model]
        if answers:
            return answers[-1].speaker
        return self.header.speaker if self.header else Speaker()

    @property
    def says_nothing(self) -> bool:
        """Whether nothing at all is known of a chat."""
        return self.header is None and not self.events

    @property
    def n_turns(self) -> int:
        """Questions with their answers."""
        return len(self.turns) // 2

    def conversation(self) -> Conversation:
        """The conversation, to go on with."""
        return Conversation(self.system, [turn.message for turn in self.turns], self.unanswered)

    def in_words(self) -> str:
        """How long it is, as in "3 turns"."""
        waiting = ", the last message without an answer" if self.unanswered is not None else ""
        return f"{self.n_turns} turn{'s' if self.n_turns != 1 else ''}{waiting}"

    def complaint(self) -> str:
        """What is damaged, in a few words; "" for nothing."""
        named = [f"line {damage.number} is {damage.what}" for damage in self.damages[:MAX_NAMED]]
        more = len(self.damages) - len(named)
        return ", ".join(named) + (f", and {more} more lines" if more else "")


_ENDS = ("assistant", "continued", "unanswered")  # an answer, and makes its pieces useless


@dataclass
class _Reader:
    """Takes the lines of a file, one after the other."""

    header: Header | None = None
    events: list[Event] = field(default_factory=list)
    sound: list[bytes] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    fold: Fold = field(default_factory=Fold)
    _pieces: list[tuple[int, bytes]] = field(default_factory=list)  # not looked at yet

    def take(self, number: int, raw: bytes) -> None:
        """A line that is not empty."""
        if is_piece(raw) and self.fold.is_answering:
            self._pieces.append((number, raw))
            return
        line = self._decoded(number, raw)
        if line is None:
            return
        if self._pieces and not (isinstance(line, Event) and line.kind in _ENDS):
            self.take_pieces()
        self._happen(number, raw, line)

    def take_pieces(self) -> None:
        """Those of an answer that was not ended count."""
        pieces, self._pieces = self._pieces, []
        for number, raw in pieces:
            line = self._decoded(number, raw)
            if line is not None:
                self._happen(number, raw, line)

    def _decoded(self, number: int, raw: bytes) -> Header | Event | None:
        try:
            return decode(raw)
        except Nonsense as error:
            self.damages.append(Damage(number, str(error), raw))
        except NewerFormat:
            if self.header is None:
                raise
            self.damages.append(Damage(number, "a second header", raw))
        return None

    def _happen(self, number: int, raw: bytes, line: Header | Event) -> None:
        try:
            if isinstance(line, Event):
                self.fold.take(line)
                self.events.append(line)
            elif self.header is not None:
                raise OutOfPlace("a second header")
            else:
                self.header, self.fold.system = line, line.system
        except OutOfPlace as error:
            self.damages.append(Damage(number, str(error), raw, is_illegible=False))
        else:
            self.sound += [piece for _, piece in self._pieces]
            self._pieces.clear()
            self.sound.append(raw)


def read(data: bytes) -> Session:
    """What the bytes of a file say. Raises NewerFormat; all other nonsense is in ``damages``."""
    reader, number = _Reader(), 0
    for number, raw in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if raw.strip():
            reader.take(number, raw)
    reader.take_pieces()
    damages = sorted(reader.damages, key=lambda damage: damage.number)
    if damages and damages[-1].number == number and damages[-1].is_illegible:
        damages[-1] = replace(damages[-1], what="cut off")  # it has no newline
    return _ended(reader.fold, reader.header, reader.events, damages, reader.sound)


def with_header(session: Session) -> Session:
    """The same, with a header in place of one that was lost, as well as that can be known."""
    if session.header is not None or session.says_nothing:
        return session
    header = Header(session.events[0].time, session.speaker, None)
    return replace(session, header=header, sound=(encode(header).rstrip(b"\n"), *session.sound))


def session_of(header: Header | None, events: Iterable[Event]) -> Session:
    """The session that ``events`` make, which all make sense."""
    happened = tuple(events)
    fold = Fold(header.system if header else None)
    for event in happened:
        fold.take(event)
    return _ended(fold, header, happened, (), ())


def _ended(
    fold: Fold,
    header: Header | None,
    events: Iterable[Event],
    damages: Iterable[Damage],
    sound: Iterable[bytes],
) -> Session:
    fold.end()
    return Session(
        header=header,
        events=tuple(events),
        turns=tuple(fold.turns),
        system=fold.system,
        unanswered=fold.unanswered,
        damages=tuple(damages),
        sound=tuple(sound),
    )
