"""The pictures of sweeps: what is written on them, and that equal sweeps are equal pictures."""

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from igniter_opt import InputError, Sweep, read_instance
from igniter_opt.report.sweep_plots import plot_sweep, sweep_figure
from igniter_opt.sweeps.axes import axis_with
from igniter_opt.sweeps.results import SweepPoint
from tests.sweeps.test_results import V, point, sweep


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_proven_steps_are_written_where_they_are_and_others_are_not() -> None:
    found = sweep("slo:W1", point(10, 9.18, V, V, V), point(12, 6.12, V, V), point(14, None, V), point(16, None, V))
    figure = sweep_figure(found)
    steps = [text.get_text() for text in figure.findobj(Annotation) if text.get_text()]
    assert steps == ["1 GPU less from 12 ms on", "1 GPU less from 14 ms on"]
    found = sweep("slo:W1", point(10, 3.06, V, V, V), point(12, 3.06, V, V), point(14, 3.06, V))
    assert [text.get_text() for text in sweep_figure(found).findobj(Annotation) if text.get_text()] == []
    assert "1 of 3 points are proven; rule half" in texts(sweep_figure(found))
    assert {"least cost, proven", "best plan", "proven bound"} <= set(texts(sweep_figure(found)))


def test_points_without_a_plan_are_shown_as_such() -> None:
    figure = sweep_figure(sweep("margin", point(0.1, 3.06, V), point(0.2, math.inf)))
    assert "no plan exists (proven)" in texts(figure)
    with pytest.raises(InputError, match="no plan at any point"):
        sweep_figure(sweep("margin", point(0.2, math.inf)))


def grid() -> Sweep:
    cards = read_instance("cards-table3")
    axes = axis_with("slo", [1, 2], cards), axis_with("rate", [0.5, 0.6], cards)
    values = {(1.0, 0.5): (3.06, V), (1.0, 0.6): (math.inf,), (2.0, 0.5): (None, V, V)}
    points = [
        SweepPoint(at, alone.prices, alone.plan, alone.lower_bound_per_hour, solved=True)
        for at, row in values.items()
        for alone in [point(at[0], *row)]
    ]
    return Sweep("cards-table3", "USD", "p99", axes, points)


def test_a_grid_is_a_heat_map_with_what_is_known_in_its_cells(tmp_path: Path) -> None:
    found = texts(sweep_figure(grid()))
    assert {"3.06", "none", "6.12*", "all SLOs (times)", "all rates (times)"} <= set(found)
    assert any("2 of 3 points are proven within p99's safe limits" in text for text in found)
    for name in ("one.png", "other.png"):
        plot_sweep(grid(), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
