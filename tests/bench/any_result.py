"""Any result whatever, for hypothesis: also with nothing in it, and with figures that are none."""

from __future__ import annotations

from hypothesis import strategies as st

from fwlocal.bench.result import BenchResult, LevelResult, Quality, Speed, SpeedTest

labels = st.sampled_from(("", "Q8_0", "Q6_K | *x*", "<鯨>\x1b[2J\n", "f" * 50)) | st.text(
    max_size=9
)
tests = st.builds(SpeedTest, st.sampled_from((0, 512)), st.just(128), st.integers(0, 10_000))
speeds = st.lists(st.builds(Speed, tests, st.lists(st.floats(), max_size=3).map(tuple)), max_size=3)
sizes = st.integers(0, 1 << 50)
levels = st.builds(
    LevelResult,
    label=labels,
    file=st.text(max_size=9),
    size_bytes=sizes,
    problem=st.just("") | labels,
    speeds=speeds.map(tuple),
    peak_rss_bytes=st.none() | sizes,
    quality=st.none() | st.from_type(Quality),
)
results = st.builds(BenchResult, model=labels, levels=st.lists(levels, max_size=4).map(tuple))
