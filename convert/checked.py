"""Which files of the Hub were held against their SHA-256, over all the runs that a conversion took.

A file was when it passed as a whole in the run that made all that was made of it: a hash at work
cannot be kept, and what an earlier run has fetched is not fetched again. The CRC-32 of a zip's
entries does as well, since each entry is checked in whatever run it comes. Knows nothing of how
bytes are checked (``convert.sources.remote``), nor of files on this disk (``convert.integrity``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from convert.model import Model
from convert.sources.remote import RemoteWeightFile
from convert.sources.tensors import Extent, StoredRange
from convert.writer import OutputFile

_BOUNDS = "the ETag and the length of every range were"
_REASONS = {
    True: f"went on after an interruption, so its SHA-256 could not be checked as a whole "
    f"({_BOUNDS}); --overwrite converts it anew",
    False: f"not all of it came in one piece, so its SHA-256 could not be checked as a whole "
    f"({_BOUNDS}); fetch the checkpoint and name its folder to have it checked",
}


@dataclass(frozen=True)
class _Part:
    """What one output is made of one remote file; ``is_begun`` when an earlier run has made some
    of that, ``has_entries`` when it is made of whole entries of a zip alone."""

    output: OutputFile
    file: RemoteWeightFile
    is_begun: bool
    has_entries: bool

    @property
    def key(self) -> str:
        """What the journal calls the file."""
        return self.file.path.as_posix()

    @property
    def is_checked(self) -> bool:
        """Whether all of it was held against a checksum."""
        is_covered = self.has_entries or self.key in self.output.checked
        return is_covered and not self.file.was_read_aside


class Checked:
    """Follows one run; made when it is known what an earlier one has left."""

    def __init__(self, model: Model, outputs: Sequence[OutputFile]) -> None:
        self._parts = tuple(part for output in outputs for part in _parts(model, output))

    def note(self) -> None:
        """Put into the journals what has passed as a whole by now."""
        for part in self._parts:
            if part.file.has_passed and not part.is_begun and part.key not in part.output.checked:
                part.output.note_checked(part.key, True)

    def lines(self) -> list[str]:
        """For the user, at the end: the files that were not checked as a whole, and why; one line
        for all that have the same reason."""
        self.note()
        found: dict[str, bool] = {}
        for part in self._parts:
            if not part.is_checked:
                found[part.key] = found.get(part.key, False) or part.is_begun
        named = {reason: [key for key in found if found[key] == reason] for reason in _REASONS}
        return [
            f"{', '.join(named[reason])}: {_REASONS[reason]}" for reason in named if named[reason]
        ]


def _parts(model: Model, output: OutputFile) -> Iterator[_Part]:
    for file, extents in _wanted(model, output).items():
        key, lacking = file.path.as_posix(), extents.keys() - output.done.keys()
        if lacking and key in output.checked:  # they come again, and alone
            output.note_checked(key, False)
        entries = model.source.checksums.get(file.path, ())
        is_begun = len(lacking) < len(extents)
        yield _Part(output, file, is_begun, _are_entries(extents.values(), entries))


def _wanted(model: Model, output: OutputFile) -> Mapping[RemoteWeightFile, dict[str, Extent]]:
    """The output's tensors, by the remote files that they are in; those that are held in memory
    were checked when they were opened."""
    planned = {planned.tensor.name for planned in output.plan.tensors}
    wanted: dict[RemoteWeightFile, dict[str, Extent]] = {}
    for tensor in model.tensors:
        if tensor.name in planned and tensor.values is None:
            for extent in model.source.extents(tensor.source_name):
                if isinstance(extent.file, RemoteWeightFile) and not extent.file.is_held:
                    wanted.setdefault(extent.file, {})[tensor.name] = extent
    return wanted


def _are_entries(extents: Iterable[Extent], entries: Sequence[StoredRange]) -> bool:
    """Whether each is a whole entry: it has then passed, and was checked, before it was done."""
    places = {(entry.offset, entry.offset + entry.size_bytes) for entry in entries}
    return all((extent.begin, extent.end) in places for extent in extents)
