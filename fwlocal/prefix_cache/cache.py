"""The cache: the entry that shares the longest beginning with a prompt, read, checked and kept.

Readers take no lock: an entry gets its name when it is whole, and is never changed. Writers take
one, and whoever finds it taken writes nothing. Only its holder has a growing file, so one that is
found under the lock was left by a process that died.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fwlocal.errors import StoreError
from fwlocal.files import sync_folder, user_cache
from fwlocal.locks import held
from fwlocal.prefix_cache.folder import (
    PRIVATE_FILE,
    Stored,
    entry_name,
    growing_path,
    in_time,
    leaving,
    make_folder,
    next_use,
    note_use,
    remove,
    stored_files,
)
from fwlocal.prefix_cache.form import (
    BadEntry,
    GivenUp,
    Header,
    n_common,
    packed_tokens,
    read_header,
    read_state,
    short_name,
    write_entry,
)
from fwlocal.prefix_cache.headers import Headers
from fwlocal.prefix_cache.setting import Setting
from fwlocal.prefix_cache.worth import LEAST_TOKENS, worth_loading

log = logging.getLogger(__name__)

LOCK_NAME = "writing"  # in the folder
SPARE_BYTES = 1 << 30  # of the disk, that entries leave to others
PATIENCE_S = 0.25  # of reading, before it is asked whether it goes on for longer than it saves

Outcome = Literal["written", "known", "too large", "no room", "busy", "given up", "failed", "off"]


def default_folder() -> Path:
    """``prefixes`` in the user's cache folder, or in what FWLOCAL_CACHE names."""
    return user_cache() / "prefixes"


def _free_bytes(root: Path) -> int:
    return shutil.disk_usage(root).free


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Hit:
    """An entry of use: ``n_common`` tokens of a prompt need no evaluation once its state, which
    holds ``n_tokens``, is taken over and cut; that saves about ``saved_s`` seconds."""

    path: Path
    header: Header
    n_common: int

    @property
    def n_tokens(self) -> int:
        """How many tokens the state holds: the context must have room for them."""
        return self.header.n_tokens

    @property
    def saved_s(self) -> float:
        """By what the evaluation took when the state was made."""
        return self.header.prefill_s * self.n_common / self.n_tokens


class PrefixCache:
    """The entries in the folder ``root``, which need not exist, ``bound_bytes`` of them at most; 0
    turns it off. Its methods raise nothing: a cache that does not work costs time, no answer."""

    def __init__(
        self,
        root: Path,
        bound_bytes: int,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[Path], int] = _free_bytes,
    ) -> None:
        self.root = root
        self.bound_bytes = bound_bytes
        self._now_ns = now_ns
        self._free_bytes = free_bytes
        self._headers = Headers()
        self._has_complained = False

    def find(
        self,
        setting: Setting,
        prompt: Sequence[int],
        at_least: int = LEAST_TOKENS,
        *,
        most_tokens: int | None = None,
        align: int = 1,
    ) -> Hit | None:
        """The entry that saves most of evaluating ``prompt``: at least ``at_least`` tokens, and
        more time than it takes to read. The last token is never among them: its logits choose the
        next one.

        ``most_tokens`` is what the context has room for. ``align`` rounds ``n_common`` down: to
        the context's n_ubatch, so that the rest is evaluated in the batches in which it would be
        without the entry, and rounded alike.
        """
        if not self.bound_bytes or len(prompt) <= at_least:
            return None
        wanted = packed_tokens(prompt)
        hits = []
        try:
            for file, header in self._headers.of(setting, stored_files(self.root)):
                shared = min(n_common(wanted, header.tokens), len(prompt) - 1)
                hit = Hit(Path(file.path), header, shared - shared % align)
                fits = most_tokens is None or hit.n_tokens <= most_tokens
                usable = setting.can_cut or hit.n_common == hit.n_tokens
                if fits and usable and hit.n_common >= max(1, at_least):
                    hits.append(hit)
        except OSError as error:
            self._complain(error)
        hits = [hit for hit in hits if worth_loading(hit.saved_s, hit.header.state_bytes)]
        return max(hits, key=lambda hit: (hit.n_common, -hit.n_tokens), default=None)

    def load(self, hit: Hit) -> Any | None:
        """The state of an entry, checked, for ``llama.Context.restore``; None where it is gone,
        damaged (then it is removed), or would take longer to read than it saves, which shows when
        little of it is read."""
        is_too_slow = too_slow(hit, time.monotonic())
        try:
            with hit.path.open("rb", buffering=0) as file:
                header = read_header(file)
                if (header.key, header.tokens) != (hit.header.key, hit.header.tokens):
                    raise BadEntry("it is not what its name says")
                state = read_state(file, header, is_too_slow)
        except BadEntry:
            remove(hit.path)
            return None
        except FileNotFoundError:
            return None
        except (OSError, MemoryError, GivenUp) as error:
            self._complain(error)
            return None
        self._note_use(hit.path)
        return state

    def drop(self, hit: Hit) -> None:
        """Remove an entry that llama.cpp did not take."""
        remove(hit.path)

    def put(
        self,
        setting: Setting,
        tokens: Sequence[int],
        state: Any,
        prefill_s: float,
        give_up: Callable[[], bool] = _never,
    ) -> Outcome:
        """Keep the ``state`` (C bytes) of ``tokens``, whose evaluation took about ``prefill_s``
        seconds; what came of it. ``give_up`` is asked while it is written.

        Entries that are the beginning of this one, and which it can stand in for, are removed. It
        is not written where another one spares all but LEAST_TOKENS of its tokens.
        """
        name, packed = short_name(setting.model), packed_tokens(tokens)
        header = Header(setting.key, name, packed, prefill_s, len(state))
        if not self.bound_bytes or not packed or not len(state):
            return "off"
        if header.entry_bytes > self.bound_bytes:
            return "too large"
        try:
            make_folder(self.root)
            with held(self.root / LOCK_NAME, "keeping the state of a prompt"):
                return self._put(setting, header, state, give_up)
        except StoreError:
            return "busy"
        except GivenUp:
            return "given up"
        except (OSError, MemoryError) as error:
            self._complain(error)
            return "failed"

    def _put(
        self, setting: Setting, header: Header, state: Any, give_up: Callable[[], bool]
    ) -> Outcome:
        """Keep a state, under the lock."""
        files = _without_leftovers(stored_files(self.root))
        known = [*self._headers.of(setting, files)]
        path = self.root / entry_name(header.key, header.tokens)
        if _is_spared(header, known, setting) or path.name in {file.name for file, _ in known}:
            return "known"
        older = {
            file.path
            for file, other in known
            if setting.can_cut and header.tokens.startswith(other.tokens) and _serves(header, other)
        }
        now_ns = self._now_ns()
        files = in_time(stored_files(self.root), now_ns)  # less what was damaged
        used_ns = next_use(files, now_ns)
        if not self._make_room(files, header.entry_bytes, older):
            return "no room"
        self._write(path, header, state, used_ns, give_up)
        for one in older:
            remove(one)
        return "written"

    def _make_room(self, files: list[Stored], need_bytes: int, first: set[str]) -> bool:
        """Have what was used longest ago leave, if that gives the room that is needed."""
        going = leaving(files, need_bytes, self.bound_bytes, first)
        free_bytes = self._free_bytes(self.root) + sum(file.size_bytes for file in going)
        if free_bytes - need_bytes < SPARE_BYTES:
            self._complain(OSError(errno.ENOSPC, "the disk is nearly full"))
            return False
        return all(remove(file.path) for file in going)

    def _write(
        self, path: Path, header: Header, state: Any, used_ns: int, give_up: Callable[[], bool]
    ) -> None:
        """Raises GivenUp, OSError; nothing is left behind then."""
        growing = growing_path(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(growing, flags, PRIVATE_FILE)
        try:
            with os.fdopen(handle, "wb") as file:
                write_entry(file, header, state, give_up)
            note_use(growing, used_ns)
            os.replace(growing, path)
        except BaseException:
            remove(growing)
            raise
        with contextlib.suppress(OSError):  # some network folders cannot be synced
            sync_folder(self.root)

    def _note_use(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            now_ns = self._now_ns()
            files = in_time(stored_files(self.root), now_ns)
            note_use(path, next_use(files, now_ns))

    def _complain(self, error: BaseException) -> None:
        """Once, and quietly: the answer does not depend on it."""
        if not self._has_complained:
            self._has_complained = True
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            log.info("%s: prompts are not kept there (%s)", self.root, reason)


def too_slow(hit: Hit, started: float) -> Callable[[int], bool]:
    """Whether an entry that was begun then, by the clock of ``time.monotonic``, will have taken
    longer to read than it saves, by how many bytes of its state were read until now."""

    def is_too_slow(n_read: int) -> bool:
        taken_s = time.monotonic() - started
        return taken_s > PATIENCE_S and taken_s * hit.header.state_bytes > hit.saved_s * n_read

    return is_too_slow


def _without_leftovers(files: Sequence[Stored]) -> list[Stored]:
    """All but the growing files of processes that died, which are removed if that can be."""
    return [file for file in files if not (file.is_growing and remove(file.path))]


def _is_spared(header: Header, known: Sequence[tuple[Stored, Header]], setting: Setting) -> bool:
    """Whether an entry saves evaluating nearly all of the tokens."""
    served = (n_common(header.tokens, o.tokens) for _, o in known if _serves(o, header))
    return setting.can_cut and header.n_tokens - max(served, default=0) < LEAST_TOKENS


def _serves(longer: Header, header: Header) -> bool:
    """Whether it pays to read ``longer`` for what both begin with: not a state of gigabytes for a
    short beginning, which is better kept apart."""
    share = n_common(longer.tokens, header.tokens) / header.n_tokens
    return worth_loading(header.prefill_s * share, longer.state_bytes)
