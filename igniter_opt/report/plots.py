"""Plots: a plan's GPUs as stacked shares with latencies against limits, and a comparison's costs over methods, time."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, check_writable, write_bytes_atomically
from igniter_opt.compare import Comparison, ComparisonRow
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.methods import is_exact
from igniter_opt.report.charts import replica_name, sorted_checks, used_percent
from igniter_opt.report.palette import BEST, FILLS, INK, LINES, MUTED, UNUSED, USUAL, VIOLATION, Paint, paints
from igniter_opt.report.tables import method_name, number
from igniter_opt.result import Result
from igniter_opt.verify import Verification

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FORMATS = ("png", "svg", "pdf")
_HATCHES = {"": None, "stripes": "////", "dots": "...."}
_POINTS_PER_INCH = 72.0
_MOST_LABELLED_GPUS = 60
_SMALL = 7.5
# Inches of a plan's row.
_ROW_HEIGHT = 0.42
# An axis of costs over time spans at least this part of the highest, so that a tie does not look like a gap.
_LEAST_SPAN = 0.1
# Small multiples of a comparison: inches of a panel, of a bar, and of its title and axis.
_PANELS_A_ROW, _PANEL_WIDTH, _BAR_HEIGHT, _PANEL_REST = 3, 4.3, 0.24, 0.85
_TIME_WIDTH, _TIME_HEIGHT = 4.6, 2.9
# Points of a panel's bars and what is written beside them: the names of methods take the rest.
_PANEL_POINTS = (_PANEL_WIDTH - 1.1) * _POINTS_PER_INCH


def check_plot_path(path: StrPath) -> None:
    """Raise InputError unless a plot can be written at `path`."""
    if as_path(path).suffix.lstrip(".").lower() not in FORMATS:
        raise InputError(f"{path}: a plot's file name must end in {', '.join('.' + name for name in FORMATS)}")
    check_writable(path)


def blank_figure(width: float, height: float) -> "Figure":
    """Return a figure in the house style, equal ones being drawn as equal bytes (sizes in inches)."""
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "igniter-opt"
    return Figure(figsize=(width, height), layout="constrained")


def new_figure(width: float, height: float, columns: int, ratios: list[float]) -> tuple["Figure", "np.ndarray"]:
    """Return a figure in the house style and its axes, side by side with these ratios of widths (sizes in inches)."""
    figure = blank_figure(width, height)
    axes = figure.subplots(1, columns, width_ratios=ratios, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def new_grid(width: float, rows: int, columns: int, row_height: float, rest: float) -> tuple["Figure", "np.ndarray"]:
    """Return a figure of small multiples in the house style, with shared axes (sizes in inches).

    Parameters
    ----------
    row_height, rest
        Height of each row, and of what is above and below them.
    """
    figure = blank_figure(width, rows * row_height + rest)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in panels.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save_figure(figure: "Figure", path: StrPath) -> None:
    """Write a figure in the format of the file's name, equal figures as equal bytes where the format allows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=as_path(path).suffix.lstrip(".").lower(), dpi=150)
    write_bytes_atomically(path, buffer.getvalue())


def _text_width(text: str, fontsize: float = _SMALL, fontweight: str = "normal") -> float:
    """Width of a text in points."""
    font = FontProperties(size=fontsize, weight=fontweight)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width)


# ---- a plan -----------------------------------------------------------------------------------------


def plot_plan(result: Result, path: StrPath) -> None:
    """Draw a plan: stacked shares per GPU, and every placement's latency as a fraction of its limit."""
    save_figure(plan_figure(result.plan, result.verification), path)


def plan_figure(plan: Plan, verification: Verification) -> "Figure":
    """Return the plan's picture; models have the fills that they have in the report."""
    height = min(60.0, max(2.5, _ROW_HEIGHT * len(plan.gpus) + 1.9))
    figure, (shares, latency) = new_figure(12, height, 2, [3, 2])
    models = sorted({placement.model for gpu in plan.gpus for placement in gpu.placements})
    paint = paints(models)
    labelled = len(plan.gpus) <= _MOST_LABELLED_GPUS
    _draw_shares(shares, plan, paint)
    _draw_latencies(latency, plan, verification, paint)
    for axis in (shares, latency):
        axis.set_ylim(len(plan.gpus) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        if labelled:
            axis.set_yticks(range(len(plan.gpus)), [gpu.name for gpu in plan.gpus])
        else:
            axis.set_ylabel("GPU number")
    solver = plan.solver
    gpus = f"{len(plan.gpus)} GPU{'s' if len(plan.gpus) != 1 else ''}"
    _title(figure, f"{plan.instance.name}: {gpus} for {solver.cost_per_hour:g} {plan.instance.currency} per hour")
    shares.set_title(_proof(plan), loc="left", fontsize=9, color=MUTED)
    handles = [mpl.patches.Patch(**_fill(paint[model]), label=model) for model in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(models)), frameon=False)
    if labelled:
        figure.draw_without_rendering()  # only now it is known how much room there is
        _write_labels(shares, plan)
    return figure


def _title(figure: "Figure", text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)


def _proof(plan: Plan) -> str:
    solver = plan.solver
    if solver.status == "optimal":
        return f"method {solver.method}: proven optimal"
    if solver.lower_bound_per_hour is None or solver.gap is None:
        return f"method {solver.method}: nothing is proven"
    return (
        f"method {solver.method}: proven bound {solver.lower_bound_per_hour:g} per hour, gap {100 * solver.gap:.2f} %"
    )


def _fill(paint: Paint) -> dict[str, Any]:
    # The edge's colour is that of the texture; the edge itself has no width.
    return {"facecolor": FILLS[paint.fill], "edgecolor": (INK, 0.42), "hatch": _HATCHES[paint.texture], "linewidth": 0}


def _draw_shares(axis: "Axes", plan: Plan, paint: dict[str, Paint]) -> None:
    gap = 0.2
    for row, gpu in enumerate(plan.gpus):
        axis.barh(row, 100.0, color=UNUSED, height=0.8, linewidth=0)
        left = 0.0
        for placement in gpu.placements:
            share = placement.share_percent
            axis.barh(row, share - gap, left=left + gap / 2, height=0.8, **_fill(paint[placement.model]))
            left += share
    axis.axvline(100, color=INK, linewidth=1.0)
    axis.set_xlim(0, max([102.0, *(gpu.total_share_percent + 2.0 for gpu in plan.gpus)]))
    axis.set_xlabel("share of the GPU's SMs (%); b: batch")


def _write_labels(axis: "Axes", plan: Plan) -> None:
    """Write on every part whose it is, as far as it fits."""
    box = axis.get_window_extent()
    inches = box.width / axis.figure.get_dpi(), box.height / axis.figure.get_dpi()
    across = inches[0] * _POINTS_PER_INCH / axis.get_xlim()[1]
    along = 0.8 * inches[1] * _POINTS_PER_INCH / len(plan.gpus)
    for row, gpu in enumerate(plan.gpus):
        left = 0.0
        for placement in gpu.placements:
            share = placement.share_percent
            text, rotation = _label(placement, share * across, along)
            axis.text(
                left + share / 2, row, text, rotation=rotation, color=INK, ha="center", va="center", fontsize=_SMALL
            )
            left += share


def _label(placement: Placement, room: float, height: float) -> tuple[str, float]:
    """Return what fits on a part of these many points, and its rotation: the batch may be left out."""
    name = replica_name(placement.workload, placement.replica)
    for text in (f"{name} b{placement.batch}", name):
        if _text_width(text) + 3.0 <= room:
            return text, 0.0
    upright = _text_width(name) + 3.0 <= height and room >= 1.2 * _SMALL
    return (name, 90.0) if upright else ("", 0.0)


def _draw_latencies(axis: "Axes", plan: Plan, verification: Verification, paint: dict[str, Paint]) -> None:
    checks = iter(sorted_checks(plan, verification))
    for row, gpu in enumerate(plan.gpus):
        for position, _ in enumerate(gpu.placements):
            check = next(checks)
            used = used_percent(check)
            if used is not None:
                axis.plot(
                    used / 100.0,
                    row + 0.8 * ((position + 0.5) / len(gpu.placements) - 0.5),
                    marker="o" if check.ok else "X",
                    color=FILLS[paint[check.model].fill] if check.ok else VIOLATION,
                    markeredgecolor=INK if check.ok else VIOLATION,
                    markeredgewidth=0.8,
                    markersize=6,
                )
    axis.axvline(1.0, color=INK, linewidth=1.0)
    axis.grid(axis="y", color=UNUSED)
    axis.set_axisbelow(True)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, 0.5), max(high, 1.02))
    axis.set_xlabel("predicted latency / limit")


# ---- a comparison -----------------------------------------------------------------------------------


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
        _draw_costs(axis, entries)
        workloads = f"{entries[0].workloads:,} workload{'s' if entries[0].workloads != 1 else ''}"
        title = workloads if len(panels) == 1 else f"{instance} ({workloads})"
        axis.set_title(title, loc="left", fontsize=9.5)
    for axis in grid.flat[len(panels) :]:
        axis.set_visible(False)
    costs.legend(
        handles=_keys(comparison.rows), loc="outside lower left", ncols=2 if beside else 4, frameon=False, fontsize=8
    )
    if times is not None:
        _draw_histories(times.subplots(), comparison)
    _title(figure, f"{next(iter(panels))}: cost per hour by method" if len(panels) == 1 else "Cost per hour by method")
    return figure


def _is_exact(row: ComparisonRow) -> bool:
    return is_exact(row.solved_by)


def _violates(row: ComparisonRow) -> bool:
    return bool(row.workloads_over_slo)


def _bar_style(row: ComparisonRow) -> dict[str, Any]:
    if _violates(row):
        return {"facecolor": UNUSED, "edgecolor": USUAL, "hatch": "////", "linewidth": 0.8}
    return {"facecolor": BEST if _is_exact(row) else USUAL, "linewidth": 0}


def _keys(rows: Sequence[ComparisonRow]) -> list["Artist"]:
    """Return what the legend explains, as far as it is there."""
    kinds = {}
    for row in rows:
        if row.cost_per_hour is not None:
            word = "violates SLOs" if _violates(row) else "exact method" if _is_exact(row) else "heuristic"
            kinds[word] = mpl.patches.Patch(**_bar_style(row), label=word)
    found: list[Artist] = [kinds[word] for word in ("exact method", "heuristic", "violates SLOs") if word in kinds]
    if any(row.lower_bound_per_hour is not None for row in rows):
        found.append(mpl.lines.Line2D([], [], color=INK, linewidth=2.0, label="proven bound"))
    return found


def _draw_costs(axis: "Axes", rows: Sequence[ComparisonRow]) -> None:
    """Draw an instance's bars and its bound, with what the plans cost beside them: neither reaches under a text."""
    bound = max((row.lower_bound_per_hour for row in rows if row.lower_bound_per_hour), default=0.0)
    if bound:
        axis.axvline(bound, color=INK, linewidth=2.0)
    most = bound
    for y, row in enumerate(rows):
        words, colour = "no plan", MUTED
        if row.cost_per_hour is not None:
            axis.barh(y, row.cost_per_hour, height=0.72, **_bar_style(row))
            words = f"{number(row.cost_per_hour, 2)}, {row.gpus} GPU{'s' if row.gpus != 1 else ''}"
            if _violates(row):
                words, colour = f"{words}, {row.workloads_over_slo} of {row.workloads} over SLO", VIOLATION
            elif _is_exact(row):
                colour = BEST
        end = max(bound, row.cost_per_hour or 0.0)
        style: dict[str, Any] = {"fontsize": _SMALL, "fontweight": "bold" if _is_exact(row) else "normal"}
        axis.annotate(words, (end, y), (4, 0), textcoords="offset points", va="center", color=colour, **style)
        taken = min(0.8 * _PANEL_POINTS, _text_width(words, **style) + 8.0)
        most = max(most, end * _PANEL_POINTS / (_PANEL_POINTS - taken))
    axis.set_yticks(range(len(rows)), [method_name(row) for row in rows], fontsize=8.5)
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set(color=BEST if _is_exact(row) else INK, fontweight="bold" if _is_exact(row) else "normal")
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlim(0, most or 1.0)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


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


def draw_progress(
    axis: "Axes",
    points: Sequence[tuple[float, float | None, float | None]],
    colour: str,
    label: str,
    *,
    scale: float = 1.0,
    bound_colour: str | None = None,
) -> None:
    """Draw the best plan's cost (solid) and the proven bound (dashed) over time.

    Parameters
    ----------
    points
        Seconds, cost and bound (None or 0 while unknown) at every change and at the end.
    scale
        Costs are divided by it.
    bound_colour
        Of the bound, if not the same.
    """
    below = bound_colour or colour
    times = [seconds for seconds, _, _ in points]
    costs = [np.nan if cost is None else cost / scale for _, cost, _ in points]
    bounds = [bound / scale if bound else np.nan for _, _, bound in points]
    axis.step(times, costs, where="post", color=colour, linewidth=2.0, label=label)
    axis.step(times, bounds, where="post", color=below, linewidth=2.0, linestyle="--")
    axis.plot(times[-1:], costs[-1:], marker="o", markersize=5, color=colour)
    axis.plot(times[-1:], bounds[-1:], marker="_", markersize=8, color=below)
