"""Which bytes are fetched for which tensors."""

from __future__ import annotations

from convert.sources.remote import RemoteWeightFile
from convert.sources.spans import GAP_BYTES, plan
from convert.sources.tensors import Extent


class Blank(RemoteWeightFile):
    """A file of any size that is only planned with."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes


def test_neighbours_come_together_and_a_whole_file_whole() -> None:
    file, other = Blank(10 * GAP_BYTES), Blank(10 * GAP_BYTES)
    whole = plan(
        [Extent("a", file, 100, GAP_BYTES), Extent("b", file, 2 * GAP_BYTES, 10 * GAP_BYTES)]
    )
    assert [(run.begin, run.end, run.is_whole) for run in whole] == [(0, 10 * GAP_BYTES, True)]
    gap = plan([Extent("a", file, 100, 200), Extent("b", file, GAP_BYTES + 201, 10 * GAP_BYTES)])
    assert [(run.begin, run.end) for run in gap] == [(100, 200), (GAP_BYTES + 201, 10 * GAP_BYTES)]
    turned = plan(
        [Extent("b", file, 5 * GAP_BYTES, 10 * GAP_BYTES), Extent("a", file, 0, 5 * GAP_BYTES)]
    )
    assert [run.start for run in turned] == [0, 5 * GAP_BYTES]
    mixed = plan([Extent(name, f, 0, 10) for name, f in (("a", file), ("b", other), ("c", file))])
    assert [run.file for run in mixed] == [file, other, file]
    assert plan([Extent("nothing", file, 5, 5)]) == ()
