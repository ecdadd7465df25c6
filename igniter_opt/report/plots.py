"""Plots: their house style, a plan's GPUs as stacked shares with latencies against limits, and costs over time."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, check_writable
from igniter_opt.base.kinds import PLOT, write_output
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.report.charts import replica_name, slice_place, sorted_checks, used_percent
from igniter_opt.report.palette import FILLS, INK, MUTED, UNUSED, VIOLATION, Paint, paints
from igniter_opt.report.tables import number
from igniter_opt.result import Result
from igniter_opt.slo.rules import proven_within
from igniter_opt.verify import Verification, verify

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
_HATCHES = {"": None, "stripes": "////", "dots": "...."}
POINTS_PER_INCH = 72.0
_MOST_LABELLED_GPUS = 60
SMALL = 7.5
# Inches of a plan's row.
_ROW_HEIGHT = 0.42


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
    write_output(path, buffer.getvalue(), PLOT)


def title_of(figure: "Figure", text: str) -> None:
    """Give a figure its title."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)


def text_width(text: str, fontsize: float = SMALL, fontweight: str = "normal") -> float:
    """Width of a text in points."""
    font = FontProperties(size=fontsize, weight=fontweight)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width)


# ---- a plan -----------------------------------------------------------------------------------------


def plot_plan(plan: Plan | Result, path: StrPath) -> None:
    """Draw a plan, or a result's: stacked shares per GPU, and every placement's latency as a fraction of its limit.

    Raises
    ------
    InputError
        The path does not end in ``.png``, ``.svg`` or ``.pdf``, or something else than a picture is there.
    """
    check_plot_path(path)
    drawn = plan_figure(plan, verify(plan)) if isinstance(plan, Plan) else plan_figure(plan.plan, plan.verification)
    save_figure(drawn, path)


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
    price = f"{number(solver.cost_per_hour, 2)} {plan.instance.currency}"
    title_of(figure, f"{plan.instance.name}: {gpus} for {price} per hour")
    shares.set_title(_proof(plan), loc="left", fontsize=9, color=MUTED)
    handles = [mpl.patches.Patch(**_fill(paint[model]), label=model) for model in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(models)), frameon=False)
    if labelled:
        figure.draw_without_rendering()  # only now it is known how much room there is
        _write_labels(shares, plan)
    return figure


def _proof(plan: Plan) -> str:
    solver = plan.solver
    within = proven_within(plan.instance.slo_rule)
    if solver.status == "optimal":
        return f"method {solver.method}: proven optimal{within}"
    if solver.lower_bound_per_hour is None or solver.gap is None:
        return f"method {solver.method}: nothing is proven"
    return (
        f"method {solver.method}: proven bound {solver.lower_bound_per_hour:g} per hour, gap {100 * solver.gap:.2f} %"
        f"{within}"
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
            left, share = slice_place(plan, gpu, placement) or (left, placement.share_percent)
            axis.barh(row, share - gap, left=left + gap / 2, height=0.8, **_fill(paint[placement.model]))
            left += share
    axis.axvline(100, color=INK, linewidth=1.0)
    axis.set_xlim(0, max([102.0, *(gpu.total_share_percent + 2.0 for gpu in plan.gpus)]))
    cut = any(placement.slice for gpu in plan.gpus for placement in gpu.placements)
    axis.set_xlabel("share of the GPU's SMs (%); b: batch" + ("; slices by their part of the memory" if cut else ""))


def _write_labels(axis: "Axes", plan: Plan) -> None:
    """Write on every part whose it is, as far as it fits."""
    box = axis.get_window_extent()
    inches = box.width / axis.figure.get_dpi(), box.height / axis.figure.get_dpi()
    across = inches[0] * POINTS_PER_INCH / axis.get_xlim()[1]
    along = 0.8 * inches[1] * POINTS_PER_INCH / len(plan.gpus)
    for row, gpu in enumerate(plan.gpus):
        left = 0.0
        for placement in gpu.placements:
            left, share = slice_place(plan, gpu, placement) or (left, placement.share_percent)
            text, rotation = _label(placement, share * across, along)
            axis.text(
                left + share / 2, row, text, rotation=rotation, color=INK, ha="center", va="center", fontsize=SMALL
            )
            left += share


def _label(placement: Placement, room: float, height: float) -> tuple[str, float]:
    """Return what fits on a part of these many points, and its rotation: the batch may be left out."""
    name = replica_name(placement.workload, placement.replica)
    of_slice = [] if placement.slice is None else [f"{name} {placement.slice} {placement.processes}×b{placement.batch}"]
    for text in (*of_slice, f"{name} b{placement.batch}", name):
        if text_width(text) + 3.0 <= room:
            return text, 0.0
    upright = text_width(name) + 3.0 <= height and room >= 1.2 * SMALL
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


# ---- a solve over time -----------------------------------------------------------------------------


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
