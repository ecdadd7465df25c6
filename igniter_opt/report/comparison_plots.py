"""The plot of a comparison: what every method's plan costs, what is proven, and both over time."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.compare import Comparison, ComparisonRow
from igniter_opt.methods import is_exact
from igniter_opt.report.palette import BEST, INK, LINES, MUTED, UNUSED, USUAL, VIOLATION
from igniter_opt.report.plots import (
    POINTS_PER_INCH,
    SMALL,
    blank_figure,
    draw_progress,
    save_figure,
    text_width,
    title_of,
)
from igniter_opt.report.tables import method_name, number
from igniter_opt.slo.rules import proven_within

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# An axis of costs over time spans at least this part of the highest, so that a tie does not look like a gap.
_LEAST_SPAN = 0.1
# Small multiples of a comparison: inches of a panel, of a bar, and of its title and axis.
_PANELS_A_ROW, _PANEL_WIDTH, _BAR_HEIGHT, _PANEL_REST = 3, 4.3, 0.24, 0.85
_TIME_WIDTH, _TIME_HEIGHT = 4.6, 2.9
# Points of a panel's bars and what is written beside them: the names of methods take the rest.
_PANEL_POINTS = (_PANEL_WIDTH - 1.1) * POINTS_PER_INCH


def plot_comparison(comparison: Comparison, path: StrPath) -> None:
    """Draw cost per hour by method, a panel per instance, with a line at the proven bound.

    Where some method reports progress, a further panel has its best plan's cost and its bound over time.
    """
    save_figure(comparison_figure(comparison), path)


def comparison_figure(comparison: Comparison) -> "Figure":
    """Return the comparison's picture; raise InputError where no method found a plan."""
    if all(row.cost_per_hour is None for row in comparison.rows):
        raise InputError("nothing to draw: no method found a plan")
    panels: dict[str, list[ComparisonRow]] = {}
    for row in comparison.rows:
        panels.setdefault(row.instance, []).append(row)
    columns = min(len(panels), max(_PANELS_A_ROW, math.isqrt(len(panels) // 4)))
    rows = math.ceil(len(panels) / columns)
    most = max(len(entries) for entries in panels.values())
    cost_height = rows * (_PANEL_REST + _BAR_HEIGHT * most)
    with_history = any(result.history for result in comparison.results.values())
    beside = with_history and len(panels) == 1
    width = _PANEL_WIDTH * columns + (_TIME_WIDTH if beside else 1.6 if columns == 1 else 0.0)
    height = cost_height + (_TIME_HEIGHT if with_history and not beside else 0.0) + 0.9
    figure = blank_figure(width, max(height, 3.4 if beside else 0.0))
    costs: Figure | SubFigure = figure
    times: SubFigure | None = None
    if beside:
        costs, times = figure.subfigures(1, 2, width_ratios=[_PANEL_WIDTH, _TIME_WIDTH], squeeze=False)[0]
    elif with_history:
        costs, times = figure.subfigures(2, 1, height_ratios=[cost_height + 0.5, _TIME_HEIGHT], squeeze=False)[:, 0]
    grid = costs.subplots(rows, columns, squeeze=False)
    for axis, (instance, entries) in zip(grid.flat, panels.items(), strict=False):
        _draw_costs(axis, entries, _best_of(entries))
        workloads = f"{entries[0].workloads:,} workload{'s' if entries[0].workloads != 1 else ''}"
        title = f"{workloads}: cost per hour" if len(panels) == 1 else f"{instance} ({workloads})"
        axis.set_title(title, loc="left", fontsize=9.5)
    for axis in grid.flat[len(panels) :]:
        axis.set_visible(False)
    costs.legend(handles=_keys(panels), loc="outside lower left", ncols=2 if beside else 4, frameon=False, fontsize=8)
    if times is not None:
        _draw_histories(times.subplots(), comparison)
    title_of(figure, _finding(comparison) if len(panels) == 1 else "Cost per hour of every method's plan")
    return figure


def _best_of(rows: Sequence[ComparisonRow]) -> ComparisonRow | None:
    """Return the cheapest plan that keeps all SLOs; of equal ones an exact method's, which says what is proven."""
    usable = [row for row in rows if row.cost_per_hour is not None and not _violates(row)]
    return min(usable, key=lambda row: (row.cost_per_hour, not is_exact(row.solved_by)), default=None)


def _finding(comparison: Comparison) -> str:
    """Say what a comparison on one instance has found."""
    instance = comparison.rows[0].instance
    best = _best_of(comparison.rows)
    if best is None:
        return f"{instance}: no method's plan keeps all SLOs"
    proof = ""
    if best.gap is not None:
        proof = ", proven optimal" if best.status == "optimal" else f", gap {100 * best.gap:.2f} %"
        found = comparison.results.get((instance, best.method))
        proof += "" if found is None else proven_within(found.plan.instance.slo_rule)
    currency = "".join({f" {result.plan.instance.currency}" for result in comparison.results.values()})
    return f"{instance}: {number(best.cost_per_hour, 2)}{currency} per hour by {method_name(best)}{proof}"


def _violates(row: ComparisonRow) -> bool:
    return bool(row.workloads_over_slo)


def _bar_style(row: ComparisonRow, best: ComparisonRow | None) -> dict[str, Any]:
    if _violates(row):
        return {"facecolor": UNUSED, "edgecolor": USUAL, "hatch": "////", "linewidth": 0.8}
    return {"facecolor": BEST if row is best else USUAL, "linewidth": 0}


def _keys(panels: Mapping[str, Sequence[ComparisonRow]]) -> list["Artist"]:
    """Return what the legend explains, as far as it is there."""
    kinds = {}
    for rows in panels.values():
        best = _best_of(rows)
        for row in rows:
            if row.cost_per_hour is not None:
                word = "violates SLOs" if _violates(row) else "cheapest that keeps SLOs" if row is best else "others"
                kinds[word] = mpl.patches.Patch(**_bar_style(row, best), label=word)
    found: list[Artist] = [
        kinds[word] for word in ("cheapest that keeps SLOs", "others", "violates SLOs") if word in kinds
    ]
    if any(row.lower_bound_per_hour is not None for rows in panels.values() for row in rows):
        found.append(mpl.lines.Line2D([], [], color=INK, linewidth=2.0, label="proven bound"))
    return found


def _draw_costs(axis: "Axes", rows: Sequence[ComparisonRow], best: ComparisonRow | None) -> None:
    """Draw an instance's bars and its bound, with what the plans cost beside them: neither reaches under a text."""
    bound = max((row.lower_bound_per_hour for row in rows if row.lower_bound_per_hour), default=0.0)
    if bound:
        axis.axvline(bound, color=INK, linewidth=2.0)
    most = bound
    for y, row in enumerate(rows):
        words, colour = "no plan", MUTED
        if row.cost_per_hour is not None:
            axis.barh(y, row.cost_per_hour, height=0.72, **_bar_style(row, best))
            words = f"{number(row.cost_per_hour, 2)}, {row.gpus} GPU{'s' if row.gpus != 1 else ''}"
            if _violates(row):
                words, colour = f"{words}, {row.workloads_over_slo} of {row.workloads} over SLO", VIOLATION
            elif row is best:
                colour = BEST
        end = max(bound, row.cost_per_hour or 0.0)
        style: dict[str, Any] = {"fontsize": SMALL, "fontweight": "bold" if row is best else "normal"}
        axis.annotate(words, (end, y), (4, 0), textcoords="offset points", va="center", color=colour, **style)
        taken = min(0.8 * _PANEL_POINTS, text_width(words, **style) + 8.0)
        most = max(most, end * _PANEL_POINTS / (_PANEL_POINTS - taken))
    axis.set_yticks(range(len(rows)), [method_name(row) for row in rows], fontsize=8.5)
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set(color=BEST if row is best else INK, fontweight="bold" if row is best else "normal")
    axis.set_ylim(len(rows) - 0.5, -0.5)
    # From 0; every bar has its number beside it, so there is no scale.
    axis.set_xlim(0, most or 1.0)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_histories(axis: "Axes", comparison: Comparison) -> None:
    """Best plan and bound over time of the solves that report progress, as far as colours last."""
    found = {key: result for key, result in comparison.results.items() if result.history}
    shown = list(found.items())[: len(LINES)]
    instances = {instance for (instance, _), _ in shown}
    asked = {method for (_, method), _ in shown}
    for k, ((instance, method), result) in enumerate(shown):
        # Costs of several instances are far apart: parts of each one's final cost then.
        scale = 1.0 if len(instances) == 1 else result.cost
        points = [
            (entry.elapsed_s, entry.cost, entry.lower_bound) for entry in result.history if entry.phase != "share"
        ]
        end = max(result.plan.solver.runtime_s, result.history[-1].elapsed_s)
        points.append((end, result.cost, result.lower_bound))
        name = method if len(instances) == 1 else instance if len(asked) == 1 else f"{instance} {method}"
        draw_progress(axis, points, LINES[k], name, scale=scale, bound_colour=INK if len(shown) == 1 else None)
    left_out = f" ({len(found) - len(shown)} more solves not drawn)" if len(found) > len(shown) else ""
    axis.set_title(f"Best plan (solid) and proven bound (dashed) over time{left_out}", loc="left", fontsize=9.5)
    axis.set_xlabel("seconds", fontsize=9)
    axis.set_ylabel("cost per hour" if len(instances) == 1 else "cost per hour / final cost", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(y=0.15)
    axis.set_xlim(left=0.0)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, (1.0 - _LEAST_SPAN) * high), high)
    if len(shown) > 1:
        axis.figure.legend(loc="outside lower left", fontsize=8, frameon=False, ncols=4)
