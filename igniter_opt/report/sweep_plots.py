"""The plot of a sweep: costs and bounds along a line with the proven steps, or over a grid as a heat map."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.report.palette import BEST, INK, MUTED, PALE, UNUSED, USUAL
from igniter_opt.report.plots import SMALL, check_plot_path, new_figure, save_figure, title_of
from igniter_opt.report.tables import number
from igniter_opt.slo.rules import proven_within
from igniter_opt.sweeps.results import Sweep, SweepPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 8.6, 4.4
# Of a heat map, in inches; larger ones have no numbers in their cells.
_CELL_WIDTH, _CELL_HEIGHT, _MOST_NUMBERS = 0.62, 0.36, 400
# Of more steps the picture would be full.
_MOST_STEPS = 8


def plot_sweep(sweep: Sweep, path: StrPath) -> None:
    """Draw a sweep.

    Raises
    ------
    InputError
        There is no plan at any point, the path does not end in ``.png``, ``.svg`` or ``.pdf``, or something else than a
        picture is there.
    """
    check_plot_path(path)
    save_figure(sweep_figure(sweep), path)


def sweep_figure(sweep: Sweep) -> "Figure":
    """Return a sweep's picture; raise InputError where there is no plan at any point."""
    if all(point.plan is None for point in sweep.points):
        raise InputError("nothing to draw: there is no plan at any point")
    return _curve(sweep) if len(sweep.axes) == 1 else _map(sweep)


def _curve(sweep: Sweep) -> "Figure":
    figure, (axis,) = new_figure(_WIDTH, _HEIGHT, 1, [1])
    points = sweep.points
    # Where between two points a step is, is not known: it is drawn half-way.
    at = np.array([point.coordinates[0] for point in points])
    costs = np.array([np.nan if point.cost_per_hour is None else point.cost_per_hour for point in points])
    if sweep.axes[0].variable.priced:
        axis.plot(at, costs, color=BEST, linewidth=2.0)
    else:
        axis.step(at, costs, where="mid", color=BEST, linewidth=2.0)
    proven = np.array([point.proven and point.plan is not None for point in points])
    axis.plot(at[proven], costs[proven], "o", color=BEST, markersize=5, label="least cost, proven")
    if not proven.all() and np.isfinite(costs[~proven]).any():
        bounds = np.array([point.lower_bound_per_hour or np.nan for point in points])
        open_ = ~proven & np.isfinite(costs)
        axis.plot(at[open_], costs[open_], "o", color=BEST, markerfacecolor="white", markersize=5, label="best plan")
        axis.plot(at[open_], bounds[open_], "_", color=INK, markersize=9, label="proven bound")
    infeasible = [point.coordinates[0] for point in points if point.infeasible]
    low, high = _limits(costs)
    axis.set_ylim(low, high)
    if infeasible:
        axis.plot(infeasible, [low] * len(infeasible), "x", color=MUTED, clip_on=False, label="no plan exists (proven)")
    _write_steps(axis, sweep)
    axis.set_xlabel(sweep.axes[0].title(sweep.currency))
    axis.set_ylabel(f"{sweep.currency} per hour")
    axis.grid(axis="y", color=UNUSED)
    axis.set_axisbelow(True)
    figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    title_of(figure, f"{sweep.instance}: least cost by {sweep.axes[0].title(sweep.currency)}")
    axis.set_title(_proof(sweep), loc="left", fontsize=9, color=MUTED)
    return figure


def _limits(costs: "np.ndarray") -> tuple[float, float]:
    """Return the ends of the scale, with room for what is written above and below the curve."""
    known = costs[np.isfinite(costs)]
    room = max(0.2 * float(known.max() - known.min()), 0.05 * float(known.max()))
    return max(0.0, float(known.min()) - room), float(known.max()) + room


def _write_steps(axis: "Axes", sweep: Sweep) -> None:
    """Shade where proven steps are, and say what they are, on the side where the curve leaves room."""
    by_value = {point.coordinates[0]: point for point in sweep.points}
    low, high = sweep.points[0].coordinates[0], sweep.points[-1].coordinates[0]
    for step in [step for step in sweep.steps if step.proven][:_MOST_STEPS]:
        axis.axvspan(step.below, step.above, color=USUAL, alpha=0.18, linewidth=0)
        ends = by_value[step.below].cost_per_hour, by_value[step.above].cost_per_hour
        known = [cost for cost in ends if cost is not None]
        whole = len(known) == len(ends)
        falls = ends == tuple(sorted(known, reverse=True)) if whole else ends[0] is None
        middle = 0.5 * (step.below + step.above)
        right = middle > 0.5 * (low + high)
        # A falling curve leaves room above on the right and below on the left, a rising one the other way round.
        above = falls != right
        axis.annotate(
            step.words,
            (middle, max(known) if above else min(known)),
            (-4 if right else 4, (6 if whole else 18) * (1 if above else -1)),
            textcoords="offset points",
            ha="right" if right else "left",
            va="bottom" if above else "top",
            fontsize=SMALL,
            color=INK,
        )


def _map(sweep: Sweep) -> "Figure":
    columns, rows = (axis.values for axis in sweep.axes)
    figure, (axis,) = new_figure(
        min(24.0, max(6.0, _CELL_WIDTH * len(columns) + 2.6)), min(24.0, _CELL_HEIGHT * len(rows) + 2.0), 1, [1]
    )
    found = {point.coordinates: point for point in sweep.points}
    costs = np.full((len(rows), len(columns)), np.nan)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            point = found.get((column, row))
            if point is not None and point.cost_per_hour is not None:
                costs[y, x] = point.cost_per_hour
    colours = mpl.colors.LinearSegmentedColormap.from_list("costs", [PALE, BEST]).with_extremes(bad=UNUSED)
    drawn = axis.pcolormesh(np.ma.masked_invalid(costs), cmap=colours, edgecolors="white", linewidth=1.0)
    axis.set_xticks(np.arange(len(columns)) + 0.5, [f"{value:.6g}" for value in columns])
    axis.set_yticks(np.arange(len(rows)) + 0.5, [f"{value:.6g}" for value in rows])
    axis.tick_params(length=0, labelsize=8)
    if costs.size <= _MOST_NUMBERS:
        middle = 0.5 * (np.nanmin(costs) + np.nanmax(costs))
        for (column, row), point in found.items():
            x, y = columns.index(column), rows.index(row)
            dark = point.cost_per_hour is not None and point.cost_per_hour > middle
            axis.text(
                x + 0.5, y + 0.5, _cell(point), ha="center", va="center", fontsize=SMALL, color="white" if dark else INK
            )
    axis.set_xlabel(sweep.axes[0].title(sweep.currency))
    axis.set_ylabel(sweep.axes[1].title(sweep.currency))
    axis.spines[["left", "bottom"]].set_visible(False)
    bar = figure.colorbar(drawn, ax=axis, label=f"{sweep.currency} per hour")
    bar.outline.set_visible(False)
    title_of(figure, f"{sweep.instance}: least cost")
    axis.set_title(_proof(sweep), loc="left", fontsize=9, color=MUTED)
    _draw_edges(axis, costs)
    return figure


def _cell(point: SweepPoint) -> str:
    if point.cost_per_hour is None:
        return "none" if point.infeasible else "?"
    return number(point.cost_per_hour, 2) + ("" if point.proven else "*")


def _draw_edges(axis: "Axes", costs: "np.ndarray") -> None:
    """Draw a line wherever the cost changes: equal costs are one field."""
    known = np.nan_to_num(costs, nan=math.inf)
    for y, row in enumerate(known):
        for x, (left, right) in enumerate(pairwise(row), 1):
            if left != right:
                axis.plot([x, x], [y, y + 1], color=INK, linewidth=1.0)
    for x, column in enumerate(known.T):
        for y, (below, above) in enumerate(pairwise(column), 1):
            if below != above:
                axis.plot([x, x + 1], [y, y], color=INK, linewidth=1.0)


def _proof(sweep: Sweep) -> str:
    proven = sum(point.proven for point in sweep.points)
    within = proven_within(sweep.slo_rule)
    if proven == len(sweep.points):
        return f"all {proven} points are proven{within}; rule {sweep.slo_rule}"
    open_ = "; * is the best plan found, not proven" if len(sweep.axes) == 2 else ""
    return f"{proven} of {len(sweep.points)} points are proven{within}; rule {sweep.slo_rule}{open_}"
