"""``fwlocal bench``: what takes part: levels of a model, missing ones made first, or files.

How a missing level is got is ``bench_providing``'s; what is measured, it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.cli import bench_making as making
from fwlocal.cli.bench_providing import Means, Wish, provide
from fwlocal.cli.bench_subject import Subject, levels_here, readable, subject_of
from fwlocal.cli.output import notify
from fwlocal.errors import BadModelFile, UsageError
from fwlocal.levels import LADDER, level_in
from fwlocal.store.unfinished import MATRIX_FOLDER

if TYPE_CHECKING:
    from fwlocal.bench.entrants import Entry
    from fwlocal.bench.measured import Entrant
    from fwlocal.library import Library


@dataclass(frozen=True)
class Asked:
    """What the command line names. ``levels`` as they were typed, several in one where commas are;
    with ``files`` the model does not count. ``accepted``: its licence, without being asked."""

    model: str = ""
    levels: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    imatrix: Path | None = None
    reference: str | None = None
    n_threads: int | None = None
    accepted: bool = False


@dataclass(frozen=True)
class Entered:
    """Who takes part in a run that is called ``model``, the best first; by their labels why others
    cannot; and what all are held against."""

    model: str
    entrants: tuple[Entrant, ...]
    problems: Mapping[str, str]
    reference: Entrant


def enter(asked: Asked, library: Library) -> Entered:
    """All who take part. Missing levels are made first, which takes its time: what is told of it
    goes to stderr, and Ctrl-C leaves what the same command goes on with.

    Raises UsageError, ModelNotFound, and what ``fwlocal pull`` and ``fwlocal convert`` do.
    """
    from fwlocal.bench.entrants import choose_reference, entrants_of

    named = (_of_files if asked.files else _of_model)(asked, library)
    entrants, problems = entrants_of(named.entries)
    if not entrants:
        raise BadModelFile(next(iter(problems.values()), f"{named.model}: has no level"))
    return Entered(named.model, entrants, problems, choose_reference(entrants, named.reference))


@dataclass(frozen=True)
class _Named:
    """What was named, found: ``reference`` as its label, or file, is spelt."""

    model: str
    entries: list[Entry]
    reference: str | None


def _of_files(asked: Asked, library: Library) -> _Named:
    from fwlocal.bench.entrants import Entry
    from fwlocal.store import locate

    if asked.levels or asked.imatrix:
        other = "--levels" if asked.levels else "--imatrix"
        raise UsageError(f"{other} is for a model (-m), whose levels are made; leave out the files")
    named = [*map(str, asked.files), *_reference_files(asked)]
    files = [locate(path, library.registry, library.store) for path in named]
    names = dict.fromkeys(file.name for file in files)
    return _Named(", ".join(names), [Entry(file) for file in files], asked.reference)


def _reference_files(asked: Asked) -> list[str]:
    """The reference, where that is a file."""
    is_file = asked.reference is not None and asked.reference.lower().endswith(".gguf")
    return [str(asked.reference)] if is_file else []


def _of_model(asked: Asked, library: Library) -> _Named:
    from convert.imatrix import read_imatrix
    from fwlocal.bench.entrants import Entry
    from fwlocal.store import locate

    if asked.imatrix is not None:
        read_imatrix(asked.imatrix)  # a damaged one is not found out after hours
    subject, in_model = subject_of(asked.model, library)
    texts = _listed((in_model, *asked.levels))
    wishes = [_wish(text, subject) for text in texts]
    if in_model and len(set(wishes)) > len(set(_listed((in_model,)))):
        raise UsageError(f"{asked.model}: names a level, and --levels another; leave one out")
    is_unasked = not wishes
    if is_unasked:
        wishes = [Wish(level) for level in _usual(subject)]
    extra, reference = _reference_files(asked), asked.reference
    if reference is not None and not extra:
        wishes.append(_wish(reference, subject))
        reference = wishes[-1].label
    wishes = _with_matrix(dict.fromkeys(wishes), asked, subject, library)
    if len(wishes) == 1 and asked.reference is None:
        _hint_at_better(wishes[0], subject)
    means = Means(library, asked.imatrix, asked.n_threads, asked.accepted)
    name, entries = provide(subject, wishes, means, is_unasked=is_unasked)
    others = [locate(path, library.registry, library.store) for path in extra]
    return _Named(name, [*entries, *map(Entry, others)], reference)


def _hint_at_better(wish: Wish, subject: Subject) -> None:
    """A level alone is held against nothing, where a better one is on this disk."""
    from fwlocal.inspection import bits_per_weight

    levels = {file.path: level for level, file in subject.here.items()}
    bits = {levels[file.path]: bits_per_weight(h) for file, h in readable(subject.here.values())}
    best = max(bits, key=lambda level: bits[level], default=wish.level)
    if best != wish.level and bits[best] > bits.get(wish.level, 0.0):
        notify(
            f"{wish.label} alone is its own reference; --reference {best}, which is on this disk, "
            "measures how far it is from that"
        )


def _listed(texts: Iterable[str]) -> list[str]:
    return [one for text in texts for one in re.split(r"[,\s]+", text) if one]


def _usual(subject: Subject) -> list[str]:
    """The levels where none is named: those that are here; if that is one, a ladder beside it."""
    here = list(subject.here)
    if len(here) > 1:
        return here
    spec = subject.spec
    first = here or ([spec.default_level] if spec is not None and spec.package else [])
    return list(dict.fromkeys((*first, *LADDER)))


def _wish(text: str, subject: Subject) -> Wish:
    """A level as it is spelt here, else as the converter spells it. Raises UsageError."""
    from convert.recipes import LEVELS, level_named
    from fwlocal.bench.entrants import WITH_IMATRIX

    by_matrix = text.lower().endswith(WITH_IMATRIX)
    level = text[: -len(WITH_IMATRIX)] if by_matrix else text
    published = subject.spec.level_sizes_gb if subject.spec else {}
    known = next((k for k in (*subject.here, *published) if k.casefold() == level.casefold()), None)
    if known is not None and not (by_matrix and known not in LEVELS):
        return Wish(known, by_matrix)
    if "/" in subject.model and level_in(level) == level.upper() and not by_matrix:
        return Wish(level.upper())  # a repository may hold levels that the converter does not know
    return Wish(level_named(level).name, by_matrix)


def _with_matrix(
    wishes: Iterable[Wish], asked: Asked, subject: Subject, library: Library
) -> list[Wish]:
    """The wishes, and with a matrix each level once more by it. What cannot be made without one is
    left out then. Raises UsageError where there is none."""
    from convert.recipes import LEVELS

    header = subject.header
    found: list[Wish] = []
    for wish in wishes:
        needs = _is_to_make(wish, subject) and making.needs_matrix(wish.level, header)
        if asked.imatrix is None and (needs or wish.by_matrix):
            _check_made(wish, asked, subject, library)
        if wish.by_matrix or not needs:
            found.append(wish)
        if asked.imatrix and wish.level in LEVELS and wish.level not in making.MATRIX_IS_IDLE:
            found.append(Wish(wish.level, by_matrix=True))
    return list(dict.fromkeys(found))


def _is_to_make(wish: Wish, subject: Subject) -> bool:
    """Whether a plain level is neither here nor published."""
    published = subject.spec.level_sizes_gb if subject.spec else {}
    return not wish.by_matrix and wish.level not in (*subject.here, *published)


def _check_made(wish: Wish, asked: Asked, subject: Subject, library: Library) -> None:
    """Raise UsageError unless a level by a matrix was made before."""
    made = levels_here(f"{subject.name}{MATRIX_FOLDER}", library) if wish.by_matrix else {}
    if wish.level not in made:
        raise UsageError(
            f"{wish.label} needs an importance matrix; make one with `fwlocal imatrix -m "
            f"{asked.model}`, and name it with --imatrix FILE"
        )
