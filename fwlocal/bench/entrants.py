"""Who takes part: files become entrants, labelled, the best first, and one is the reference.

Only headers are read. Where files come from, and who makes those that are missing, is not known
here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fwlocal.bench.measured import Entrant
from fwlocal.errors import BadModelFile, UsageError
from fwlocal.gguf import GGUFArray, GGUFHeader
from fwlocal.inspection import bits_per_weight
from fwlocal.levels import UNQUANTIZED, level_in
from fwlocal.soundness import check_sound
from fwlocal.splits import stem_of
from fwlocal.store import ModelFile
from fwlocal.store.importing import NO_LEVEL, level_of
from fwlocal.whole import read_whole

WITH_IMATRIX = "+imatrix"  # at a label's end: quantized by an importance matrix

# What the converter notes: the files that one was made of, and those that they were made of.
_MADE_OF = ("fwlocal.source.files", "fwlocal.origin.files")
_IMATRIX = "quantize.imatrix."  # llama-quantize's keys, and ours


@dataclass(frozen=True)
class Entry:
    """A file that is to take part; ``label`` "" leaves it to the file, ``is_derived`` tells what
    the file may not."""

    file: ModelFile
    label: str = ""
    is_derived: bool = False


@dataclass(frozen=True)
class _Read:
    """An entry, and its header, or what is wrong with it."""

    entry: Entry
    header: GGUFHeader | None
    problem: str = ""


def entrants_of(entries: Iterable[Entry]) -> tuple[tuple[Entrant, ...], dict[str, str]]:
    """Those that can be read, the most bits per weight first, then the largest; and by their labels
    why others cannot. A file that is named twice takes part once."""
    found = [_read(entry) for entry in _once(entries)]
    labelled = list(zip(_labels(found), found, strict=True))
    entrants = [
        Entrant(
            label,
            one.entry.file,
            one.header,
            is_derived=one.entry.is_derived or is_derived(one.header),
        )
        for label, one in labelled
        if one.header is not None
    ]
    problems = {label: one.problem for label, one in labelled if one.header is None}
    return tuple(sorted(entrants, key=_rank)), problems


def choose_reference(entrants: Sequence[Entrant], named: str | None = None) -> Entrant:
    """The entrant called ``named``: a label, in whatever case, else a level, a file or its name;
    without a name the one with the most bits per weight that was not made from a quantized file.

    Raises UsageError, which names the labels.
    """
    if not entrants:
        raise UsageError("there is no level that could be measured")
    if named is None:
        own = [entrant for entrant in entrants if not entrant.is_derived]
        return min(own or entrants, key=_rank)
    for is_meant in _MEANINGS:
        meant = [entrant for entrant in entrants if is_meant(entrant, named)]
        if len(meant) == 1:
            return meant[0]
        if meant:
            break
    labels = ", ".join(entrant.label for entrant in meant or entrants)
    problem = "may be any of" if meant else "is not among the levels that can be measured:"
    raise UsageError(f"--reference {named}: {problem} {labels}")


def is_derived(header: GGUFHeader) -> bool:
    """Whether the file says that it was made from a file that was quantized already. Files of the
    converter name what they were made of; of others, nobody knows."""
    return any(map(_is_quantized_name, made_of(header)))


def made_of(header: GGUFHeader) -> list[str]:
    """The names of the files that the converter says it was made of, and of theirs."""
    return [name for key in _MADE_OF for name in _texts(header, key)]


def is_quantized(header: GGUFHeader) -> bool:
    """Whether any of the tensors is."""
    return any(tensor.type_name not in UNQUANTIZED for tensor in header.tensors)


def _is_quantized_name(name: str) -> bool:
    level = level_in(name) if name.lower().endswith(".gguf") else None
    return level is not None and level not in UNQUANTIZED


def _texts(header: GGUFHeader, key: str) -> list[str]:
    """The strings in the array at ``key``; none where there is no such array."""
    value = header.metadata.get(key)
    return [str(text) for text in value] if isinstance(value, GGUFArray) else []


def _once(entries: Iterable[Entry]) -> list[Entry]:
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(os.path.realpath(entry.file.path), entry)
    return list(first.values())


def _read(entry: Entry) -> _Read:
    try:
        header = read_whole(entry.file.path)
        check_sound(header)
    except BadModelFile as error:
        return _Read(entry, None, str(error))
    return _Read(entry, header)


def _rank(entrant: Entrant) -> tuple[float, int, str]:
    """The best first."""
    header = entrant.header
    return -bits_per_weight(header), -header.file_size_bytes, entrant.label


def _labels(found: Sequence[_Read]) -> list[str]:
    """One for each: by the first rule that makes all of them distinct."""
    labels: list[str] = []
    for rule in (_level, _level_with_matrix, _stem, _path):
        labels = [one.entry.label or rule(one) for one in found]
        if len({label.casefold() for label in labels}) == len(labels):
            break
    return labels


def _level(one: _Read) -> str:
    """As the store or the name says it, else as the file does."""
    file = one.entry.file
    level = file.level or level_in(file.path.name)
    if level is None and one.header is not None:
        level = level_of(one.header)
    return _stem(one) if level in (None, NO_LEVEL) else str(level)


def _level_with_matrix(one: _Read) -> str:
    keys: Mapping[str, object] = one.header.metadata if one.header else {}
    has_matrix = any(key.startswith(_IMATRIX) for key in keys)
    return _level(one) + WITH_IMATRIX * has_matrix


def _stem(one: _Read) -> str:
    return stem_of(one.entry.file.path.name)


def _path(one: _Read) -> str:
    return str(one.entry.file.path)


def _is_label(entrant: Entrant, named: str) -> bool:
    return entrant.label.casefold() == named.casefold()


def _is_level(entrant: Entrant, named: str) -> bool:
    return (entrant.file.level or "").casefold() == named.casefold()


def _is_file(entrant: Entrant, named: str) -> bool:
    path = entrant.file.path
    is_name = named in (path.name, stem_of(path.name))
    return is_name or os.path.realpath(Path(named).expanduser()) == os.path.realpath(path)


_MEANINGS: tuple[Callable[[Entrant, str], bool], ...] = (_is_label, _is_level, _is_file)
