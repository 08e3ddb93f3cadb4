"""The measuring script measures, and what it measures is far below its bound."""

from __future__ import annotations

from tests.compare_rendering import answer, measured


def test_rendering_costs_little() -> None:
    costs = {name: mean for name, mean, _ in measured(answer(60), repeats=2)}
    assert costs["Markdown"] < 150
