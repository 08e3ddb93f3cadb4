"""A running chat, kept as it goes.

Every change of the conversation becomes a line on the disk before the chat goes on; an answer's
pieces follow twice a second while it is written. Where nothing can be written the chat is told
once, goes on, is kept in memory, and is written as soon as that can be done. How a chat looks, this
module does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.conversation import Change
from fwlocal.errors import StoreError, UsageError
from fwlocal.locks import Busy
from fwlocal.sampling import SamplingParams
from fwlocal.sessions.events import Event, Header, Speaker, encode
from fwlocal.sessions.facts import event_of
from fwlocal.sessions.folder import SUFFIX, Folder, default_folder
from fwlocal.sessions.growing import DAMAGED, GrowingFile, read_file
from fwlocal.sessions.reading import Session, session_of

if TYPE_CHECKING:
    from fwlocal.loader import LoadedModel

PIECES_EVERY_S = 0.5


class Recorder:
    """Keeps one chat. ``speaker`` and ``sampling`` are those of the answers to come, ``warn`` gets
    lines for the user; without ``saves`` nothing is written until ``save`` is called."""

    def __init__(
        self,
        folder: Folder | None = None,
        *,
        saves: bool = True,
        warn: Callable[[str], None] = lambda line: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder or default_folder()
        self.saves = saves
        self.warn = warn
        self.speaker = Speaker()
        self.sampling: Callable[[], SamplingParams] = SamplingParams
        self._now = now
        self._is_broken = False  # not all is on the disk, which was told
        self._stays_away = False  # from a session that can be read and not written
        self._header: Header | None = None
        self._events: list[Event] = []
        self._n_written = 0  # of the events
        self._file: GrowingFile | None = None
        self._reserved: Path | None = None  # for a new session that has no file yet
        self._pieces: list[str] = []
        self._pieces_since = 0.0

    @property
    def path(self) -> Path | None:
        """The file that it is saved in; None while it is not."""
        return self._file.path if self._file and not self._is_broken else None

    @property
    def session(self) -> Session:
        """All of it so far."""
        return session_of(self._header, self._events)

    def begin(self, speaker: Speaker, system: str | None) -> None:
        """A new conversation begins."""
        self.speaker = speaker
        self._header, self._events = Header(self._time(), speaker, system), []
        self._n_written = 0

    def start_over(self, system: str | None) -> str:
        """Leave this chat as it is, and begin another, which gets a name of its own; the name that
        the one before is saved under, "" where it is not."""
        left = name_of(self.path) if self.path and self._events else ""
        self._go_on_in(None, None)
        self._reserved, self._stays_away = None, False
        self.begin(self.speaker, system)
        return left

    def open(self, name: str, *, must_exist: bool = False) -> Session | None:
        """Go on with the session ``name``, or reserve the name for this chat, and leave the one
        before. Returns what was said; None for a new one, or where nothing was and ``begin`` must
        follow.

        Raises UsageError, NoSuchSession, Busy and StoreError; all is as before then. Where it can
        be read and not written, the chat goes on unsaved.
        """
        path = self.folder.existing(name) if must_exist else self.folder.path(name)
        if self._file is not None and path == self._file.path:
            return self.session
        exists = path.is_file()
        file: GrowingFile | None = None
        failure: OSError | None = None
        session: Session | None = None
        if self.saves:
            try:
                file = GrowingFile(path)
                session = self._loaded(file) if exists else None
            except OSError as error:
                file, failure = None, error
        if file is None and exists:
            session = read_file(path)
        if session is not None and session.says_nothing:
            session = None
        if session is None and must_exist:
            if file is not None:
                file.close()
            raise UsageError(f"the session {name} holds nothing that was said")
        self._go_on_in(file, session)
        self._reserved = path if file is None and not exists else None
        self._stays_away = failure is not None and exists
        if failure is not None:
            self._tell(path, failure)
        return session

    def _loaded(self, file: GrowingFile) -> Session:
        """What the file says now that it is ours; it is given back where it cannot be written."""
        try:
            session = file.load()
        except BaseException:
            file.close()
            raise
        if session.damages:
            aside = f"set aside in {file.path.name}{DAMAGED}"
            whole = "nothing in it is whole" if session.says_nothing else "the rest is whole"
            self.warn(f"{file.path}: {session.complaint()}: {aside}; {whole}")
        return session

    def _go_on_in(self, file: GrowingFile | None, session: Session | None) -> None:
        self._switch(file)
        self._is_broken = False
        self._n_written = 0
        if session is not None:
            self._header, self._events = session.header, list(session.events)
            self._n_written = len(self._events)

    def note(self, change: Change) -> None:
        """A change of the conversation; never raises."""
        self._events.append(event_of(change, self._time(), self.speaker, self.sampling()))
        self._pieces, self._pieces_since = [], self._now()
        self._keep()

    def piece(self, text: str) -> None:
        """A piece of the answer that is being written; never raises."""
        if self._file is None or not self._file.is_begun or self._is_broken:
            return
        self._pieces.append(text)
        now = self._now()
        if 0 <= now - self._pieces_since < PIECES_EVERY_S:  # the clock may be put back
            return
        event = Event("piece", self._time(), "".join(self._pieces))
        self._pieces, self._pieces_since = [], now
        try:
            self._file.append(encode(event), synced=False)
        except OSError as error:
            self._tell(self._file.path, error)

    def save(self, name: str = "") -> Path:
        """Save from here on, all that was said included; under ``name``, which a session that is
        saved already takes. Raises UsageError, Busy and StoreError."""
        path = self.folder.path(name) if name else None
        try:
            if self._file is None or (self._is_broken and path not in (None, self._file.path)):
                self._save_all(path)
            elif path is not None and path != self._file.path:
                self._rename(self._file, path)
            self._write_rest()
        except FileExistsError:
            raise UsageError(f"there is a session {name} already; choose another name") from None
        except OSError as error:
            raise StoreError(
                f"{path or self.folder.root}: cannot be written ({error.strerror or error}); make "
                "it writable, or set FWLOCAL_SESSIONS to another folder"
            ) from error
        self.saves, self._is_broken, self._stays_away = True, False, False
        return self._file.path if self._file else self.folder.root

    def close(self) -> None:
        """Leave; what was said is on the disk, or the user is told that its end is not."""
        if self._is_broken:
            self._keep()
            if self._is_broken and self._events:
                self.warn("the end of this chat could not be saved")
        self._switch(None)

    def _keep(self) -> None:
        """Put what is not on the disk there, if that can be done; say once that it cannot."""
        if not self.saves or self._stays_away:
            return
        try:
            if self._file is None and self._is_asked:
                self._save_all(self._reserved)
            self._write_rest()
        except (OSError, StoreError) as error:
            path = self._file.path if self._file else self._reserved
            self._tell(path or self.folder.root, error)
        else:
            if self._is_broken and self._file is not None:
                self.warn(f"{self._file.path}: it can be written again; all that was said is saved")
                self._is_broken = False

    @property
    def _is_asked(self) -> bool:
        return any(event.kind == "user" for event in self._events)

    def _write_rest(self) -> None:
        """What the file has not, once something was asked. Raises OSError."""
        file = self._file
        if file is None or not (file.is_begun or self._is_asked):
            return
        if not file.is_begun:
            file.append(self._all_lines(), synced=True)
        elif self._n_written < len(self._events):
            rest = b"".join(map(encode, self._events[self._n_written :]))
            file.append(rest, synced=True)
        self._n_written = len(self._events)

    def _switch(self, file: GrowingFile | None) -> None:
        before, self._file = self._file, file
        if before is not None:
            before.close()

    def _save_all(self, path: Path | None) -> None:
        """Write all that was said into a new file, under a name made of the date and the first
        words where no ``path`` is given."""
        if path is not None:
            self._start(GrowingFile(path))
            return
        asked = (event.text for event in self._events if event.kind == "user")
        today = datetime.fromtimestamp(self._now()).date()
        for free in self.folder.free_paths(next(asked, ""), today):
            try:
                self._start(GrowingFile(free))
            except (Busy, FileExistsError):  # another chat was quicker
                continue
            return

    def _start(self, file: GrowingFile) -> None:
        try:
            if file.path.exists():
                raise FileExistsError(file.path)
            file.append(self._all_lines(), synced=True)
        except BaseException:
            file.close()
            raise
        self._switch(file)
        self._n_written = len(self._events)

    def _rename(self, file: GrowingFile, path: Path) -> None:
        if file.is_begun:
            file.rename(path)
        else:
            self._start(GrowingFile(path))

    def _all_lines(self) -> bytes:
        if self._header is None:  # it was lost
            self._header = Header(self._time(), self.speaker, None)
        return encode(self._header) + b"".join(map(encode, self._events))

    def _tell(self, path: Path, error: Exception) -> None:
        """Say once that the chat goes on unsaved."""
        if self._is_broken:
            return
        self._is_broken = True
        what = error.strerror if isinstance(error, OSError) else str(error)
        until = ", /save NAME keeps it elsewhere" if self._stays_away else " until it can be"
        self.warn(f"{path}: cannot be written ({what or error}); this chat goes on unsaved{until}")

    def _time(self) -> str:
        return datetime.fromtimestamp(self._now(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def speaker_of(loaded: LoadedModel) -> Speaker:
    """Who answers when this model does."""
    file = loaded.file
    model = f"{file.name}:{file.level}" if file.level else str(file.path.absolute())
    return Speaker(model, file.level, loaded.prompt_format)


def name_of(path: Path) -> str:
    """The session's name."""
    return path.name.removesuffix(SUFFIX)
