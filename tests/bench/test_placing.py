"""Labels beside their points."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.bench.placing import GAP, Box, Wanted, along, place

BOUNDS = Box(0, 0, 400, 300)


def test_a_label_is_right_of_its_point() -> None:
    (box,) = place([Wanted(100, 100, 40, 12)], [], BOUNDS)
    assert box == Box(100 + GAP, 94, 40, 12)


def test_at_the_right_edge_it_is_left_of_it() -> None:
    (box,) = place([Wanted(390, 100, 40, 12)], [], BOUNDS)
    assert box == Box(390 - GAP - 40, 94, 40, 12)


def test_it_goes_around_what_is_there() -> None:
    taken = [Box(105, 90, 100, 20), *along((0, 100), (90, 100))]
    (box,) = place([Wanted(100, 100, 40, 12)], taken, BOUNDS)
    assert not any(box.overlap(other) for other in taken)


def test_labels_of_one_point_do_not_cover_each_other() -> None:
    first, second = place([Wanted(100, 100, 40, 12)] * 2, [], BOUNDS)
    assert not first.overlap(second)


def test_a_label_that_is_far_has_a_line_from_beside_its_point() -> None:
    label = Wanted(100, 100, 40, 12)
    assert label.line_to(Box(107, 94, 40, 12)) is None
    assert label.line_to(Box(150, 94, 40, 12)) == ((107, 100), (150, 100))


def test_without_any_room_there_still_is_a_place() -> None:
    (box,) = place([Wanted(10, 10, 40, 12)], [Box(-500, -500, 1000, 1000)], Box(0, 0, 20, 20))
    assert (box.width, box.height) == (40, 12)


points = st.tuples(st.integers(60, 340), st.integers(40, 260))


@settings(max_examples=20, deadline=None)
@given(st.lists(points, min_size=1, max_size=8, unique=True))
def test_nothing_covers_anything(found: list[tuple[int, int]]) -> None:
    marks = [Box(x - 5, y - 5, 10, 10) for x, y in found]
    boxes = place([Wanted(x, y, 40, 12) for x, y in found], marks, BOUNDS)
    for one, other in itertools.combinations(boxes, 2):
        assert one.overlap(other) < 1
    for box in boxes:
        assert abs(box.overlap(BOUNDS) - box.area) < 1
        assert sum(box.overlap(mark) for mark in marks) < 1
