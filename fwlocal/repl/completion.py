"""What is typed after a slash: whether it is a command, and what TAB offers for it.

What commands there are, and what they do, it does not know. A folder that cannot be read offers
nothing: a TAB is no place for errors.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fwlocal.errors import FwlocalError

Proposal = tuple[str, str]  # what is offered, and a word on it
Completes = Callable[[str], Iterable[Proposal]]

MOST_FILES = 300  # more are no help to anyone
_COMMAND = re.compile(r"/([A-Za-z]+|\?)?")


class CommandLike(Protocol):
    """A slash command, as far as completion needs it: ``completes`` gets what is typed of its
    argument so far, and proposes whole arguments."""

    @property
    def name(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def argument(self) -> str: ...
    @property
    def completes(self) -> Completes: ...


@dataclass(frozen=True)
class Offer:
    """``text`` replaces the last ``n_replaced`` characters before the cursor; ``shown`` stands for
    it in a menu, with ``meta`` beside it."""

    text: str
    n_replaced: int
    shown: str
    meta: str


def looks_like_command(text: str, names: Iterable[str] = ()) -> bool:
    """Whether a message is meant as a command, known or not: a slash and letters, up to a space or
    the end. With another slash or a dot in it, the first word is a path, and the message is text;
    so is what begins with two slashes. One of ``names`` always is a command."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return first in names or _COMMAND.fullmatch(first) is not None


def as_message(text: str) -> str:
    """A message that is no command, as the model gets it: ``//text`` stands for ``/text``."""
    return text[1:] if text.startswith("//") else text


def unknown_command(text: str, names: Iterable[str]) -> str:
    """What to say of a command that there is not: the nearest, and how to send it as text."""
    name = text.split(maxsplit=1)[0]
    near = difflib.get_close_matches(name.lower(), list(names), n=1)
    offer = f"did you mean {near[0]}?" if near else "/help lists the commands"
    return f"there is no command {name}; {offer} (/{name} sends it as text)"


def offers(before: str, commands: Sequence[CommandLike]) -> list[Offer]:
    """What TAB offers after ``before``, the text up to the cursor: the names of commands, or their
    arguments. None for text that is no command."""
    typed = before.lstrip(" ")
    if not typed.startswith("/") or "\n" in typed:
        return []
    name, space, argument = typed.partition(" ")
    if not space:
        return [_named(command, len(name)) for command in commands if _begins(command.name, name)]
    argument = argument.lstrip(" ")
    for command in commands:
        if command.name == name and command.argument:
            return [_argument(found, argument) for found in _proposals(command, argument)]
    return []


def _named(command: CommandLike, n_typed: int) -> Offer:
    text = f"{command.name} " if command.argument else command.name
    return Offer(text, n_typed, f"{command.name} {command.argument}".rstrip(), command.help)


def _proposals(command: CommandLike, argument: str) -> list[Proposal]:
    try:
        found = list(command.completes(argument))
    except (FwlocalError, OSError):
        return []
    return [proposal for proposal in found if _begins(proposal[0], argument)]


def _argument(proposal: Proposal, argument: str) -> Offer:
    """In the menu, the words that are typed already are left out."""
    text, meta = proposal
    n_words = argument.rfind(" ") + 1
    shared = n_words if text[:n_words] == argument[:n_words] else 0
    return Offer(text, len(argument), _last_part(text[shared:]), meta)


def _last_part(text: str) -> str:
    """Of a path, the name alone."""
    cut = max(text.rstrip("/").rfind("/"), text.rstrip(os.sep).rfind(os.sep))
    return text[cut + 1 :]


def _begins(text: str, start: str) -> bool:
    return text.casefold().startswith(start.casefold())


def paths(typed: str) -> Iterator[Proposal]:
    """Files and folders whose path begins so, hidden ones only when their dot is typed. ``~`` is
    the home folder. Names that could not be typed are left out. Raises OSError."""
    from fwlocal.files import sized

    cut = max(typed.rfind("/"), typed.rfind(os.sep)) + 1
    folder, start = typed[:cut], typed[cut:]
    if typed == "~":
        yield "~/", "home"
        return
    with os.scandir(os.path.expanduser(folder) or ".") as entries:
        found = [e for e in entries if _begins(e.name, start) and e.name.isprintable()]
    shown = (e for e in found if start.startswith(".") or not e.name.startswith("."))
    for entry in sorted(shown, key=lambda entry: entry.name)[:MOST_FILES]:
        try:
            is_folder, size_bytes = entry.is_dir(), entry.stat().st_size
        except OSError:  # a link that leads nowhere
            continue
        is_file = not is_folder
        yield f"{folder}{entry.name}{'' if is_file else '/'}", sized(size_bytes) if is_file else ""


def models(typed: str) -> Iterator[Proposal]:
    """Models on this disk and their levels, then the other known ones. Raises FwlocalError."""
    from fwlocal.files import sized
    from fwlocal.library import Library

    library, seen = Library.default(), set()
    for stored in library.store.entries(library.registry):
        if stored.name not in seen:
            seen.add(stored.name)
            yield stored.name, stored.spec.title if stored.spec else "on this disk"
        yield f"{stored.name}:{stored.level}", sized(stored.size_bytes)
    for spec in library.registry.models.values():
        if spec.name not in seen:
            yield spec.name, f"{spec.title}, not on this disk"


def levels(name: str) -> Iterator[Proposal]:
    """The levels of the model ``name`` that are on this disk. Raises FwlocalError."""
    from fwlocal.files import sized
    from fwlocal.library import Library

    library = Library.default()
    for stored in library.store.entries(library.registry):
        if stored.name == name:
            yield stored.level, sized(stored.size_bytes)


def formats(typed: str) -> Iterator[Proposal]:
    """Prompt formats."""
    from fwlocal.prompts import FORMAT_NAMES

    return ((name, "") for name in FORMAT_NAMES)


def session_names(typed: str) -> Iterator[Proposal]:
    """Saved chats, the one used last first. Raises FwlocalError."""
    from fwlocal.sessions.folder import default_folder

    return ((name, "") for name in default_folder().names())


def one_of(*words: str) -> Completes:
    """Proposes these words."""
    return lambda typed: [(word, "") for word in words]


def word_by_word(completes: Completes) -> Completes:
    """Proposes the last of several words, each as ``completes`` does, none twice."""

    def complete(typed: str) -> Iterator[Proposal]:
        before, space, last = typed.rpartition(" ")
        there = before.split()
        for text, meta in completes(last):
            if text not in there:
                yield f"{before}{space}{text}", meta

    return complete
