"""Which bytes of which files are wanted, in which order: the plan of a stream.

Pure: tensors' places go in, runs of bytes come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convert.sources.source_file import SourceFile
from convert.sources.tensors import Extent

GAP_BYTES = 1 << 20  # so much that nobody wants is fetched rather than to begin anew behind it


@dataclass(frozen=True)
class Run:
    """Bytes of one file from ``begin`` up to ``end``, which come from ``start`` on in the stream,
    and the tensors that lie there."""

    file: SourceFile
    begin: int
    end: int
    start: int
    extents: tuple[Extent, ...]

    @property
    def stop(self) -> int:
        """Where it ends in the stream."""
        return self.start + self.end - self.begin

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file."""
        return self.begin == 0 and self.end == self.file.size_bytes

    def place(self, offset: int) -> int:
        """Where the file's ``offset`` is in the stream."""
        return self.start + offset - self.begin

    def stops(self) -> Iterator[tuple[str, int]]:
        """Each tensor and where it ends in the stream; the last one takes the run's rest along."""
        *others, last = self.extents
        yield from ((extent.name, self.place(extent.end)) for extent in others)
        yield last.name, self.stop


def plan(extents: Sequence[Extent]) -> tuple[Run, ...]:
    """Runs for the tensors in their order, neighbours together.

    A file whose only run leaves out no more than a small gap at either end is taken whole: its hash
    can then be computed as it passes.
    """
    groups: list[list[Extent]] = []
    for extent in extents:
        if extent.begin == extent.end:
            continue
        if groups and _follows(extent, groups[-1][-1]):
            groups[-1].append(extent)
        else:
            groups.append([extent])
    files = [group[0].file for group in groups]
    runs: list[Run] = []
    for group in groups:
        file, begin, end = group[0].file, group[0].begin, group[-1].end
        is_only = sum(other is file for other in files) == 1
        if is_only and begin <= GAP_BYTES and file.size_bytes - end <= GAP_BYTES:
            begin, end = 0, file.size_bytes
        runs.append(Run(file, begin, end, runs[-1].stop if runs else 0, tuple(group)))
    return tuple(runs)


def _follows(extent: Extent, before: Extent) -> bool:
    return extent.file is before.file and 0 <= extent.begin - before.end <= GAP_BYTES
