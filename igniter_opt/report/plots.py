"""Plots: a plan's GPUs as stacked shares with latencies against limits, and a comparison's costs over methods, time."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from igniter_opt.compare import Comparison
from igniter_opt.errors import InputError
from igniter_opt.result import Result
from igniter_opt.schema import check_writable, write_bytes_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
_MOST_LABELLED_GPUS = 60
# Colour-blind safe (Okabe and Ito).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
# An axis of costs over time spans at least this part of the highest, so that a tie does not look like a gap.
_LEAST_SPAN = 0.1
VIOLATION = "#B00020"


def check_plot_path(path: Path) -> None:
    """Raise InputError unless a plot can be written at `path`."""
    if path.suffix.lstrip(".").lower() not in FORMATS:
        raise InputError(f"{path}: a plot's file name must end in {', '.join('.' + name for name in FORMATS)}")
    check_writable(path)


def new_figure(width: float, height: float, columns: int, ratios: list[float]) -> tuple["Figure", "np.ndarray"]:
    """Return a figure in the house style and its axes, side by side with these ratios of widths (sizes in inches)."""
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "igniter-opt"
    figure = Figure(figsize=(width, height), layout="constrained")
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
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "igniter-opt"
    figure = Figure(figsize=(width, rows * row_height + rest), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in panels.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure in the format of the file's name, equal figures as equal bytes where the format allows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lstrip(".").lower(), dpi=150)
    write_bytes_atomically(path, buffer.getvalue())


def plot_plan(result: Result, path: Path) -> None:
    """Draw a plan: stacked shares per GPU, and every placement's latency as a fraction of its limit."""
    plan = result.plan
    height = min(60.0, max(2.5, 0.42 * len(plan.gpus) + 1.6))
    figure, (shares, latency) = new_figure(12, height, 2, [3, 2])
    models = sorted({placement.model for gpu in plan.gpus for placement in gpu.placements})
    colour = {model: COLOURS[k % len(COLOURS)] for k, model in enumerate(models)}
    labelled = len(plan.gpus) <= _MOST_LABELLED_GPUS
    _draw_shares(shares, result, colour, labelled)
    _draw_latencies(latency, result, colour)
    for axis in (shares, latency):
        axis.set_ylim(len(plan.gpus) - 0.4, -0.6)
        if labelled:
            axis.set_yticks(range(len(plan.gpus)), [gpu.name for gpu in plan.gpus])
        else:
            axis.set_ylabel("GPU number")
    solver = plan.solver
    bound = "" if solver.lower_bound_per_hour is None else f", lower bound {solver.lower_bound_per_hour:g}/h"
    figure.suptitle(
        f"{plan.instance.name}: {len(plan.gpus)} GPUs, {solver.cost_per_hour:g}/h ({solver.method},"
        f" {solver.status}{bound})",
        fontsize=11,
    )
    handles = [mpl.patches.Patch(color=colour[model], label=model) for model in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(models)), frameon=False)
    save_figure(figure, path)


def _draw_shares(axis: "Axes", result: Result, colour: dict[str, str], labelled: bool) -> None:
    for row, gpu in enumerate(result.plan.gpus):
        left = 0.0
        for placement in gpu.placements:
            axis.barh(
                row,
                placement.share_percent,
                left=left,
                color=colour[placement.model],
                edgecolor="white",
                height=0.8,
            )
            if labelled and placement.share_percent >= 7:
                name = placement.workload if placement.replica == 1 else f"{placement.workload}#{placement.replica}"
                text = f"{name} b{placement.batch}"
                if len(text) * 0.95 <= placement.share_percent:
                    axis.text(left + placement.share_percent / 2, row, text, ha="center", va="center", fontsize=7)
            left += placement.share_percent
    axis.axvline(100, color="black", linewidth=0.8)
    axis.set_xlim(0, 102)
    axis.set_xlabel("share of the GPU's SMs (%)")


def _draw_latencies(axis: "Axes", result: Result, colour: dict[str, str]) -> None:
    rows = {gpu.name: row for row, gpu in enumerate(result.plan.gpus)}
    sizes = {gpu.name: len(gpu.placements) for gpu in result.plan.gpus}
    seen: dict[str, int] = {}
    for check in result.verification.placements:
        position = seen[check.gpu] = seen.get(check.gpu, -1) + 1
        offset = (position + 0.5) / sizes[check.gpu] - 0.5
        filled = 1.0 - check.slack_ms / check.limit_ms
        axis.plot(
            filled,
            rows[check.gpu] + 0.8 * offset,
            marker="o" if check.ok else "X",
            color=colour[check.model] if check.ok else VIOLATION,
            markersize=5,
        )
    axis.axvline(1.0, color="black", linewidth=0.8)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, 0.5), max(high, 1.02))
    axis.set_xlabel("predicted latency / limit")


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Draw cost per hour by instance and method; hatched where the plan violates SLOs, a line at the bound.

    Where some method reports progress, a second panel has its incumbent and bound over time.
    """
    rows = [row for row in comparison.rows if row.cost_per_hour is not None]
    if not rows:
        raise InputError("nothing to draw: no method found a plan")
    instances = list(dict.fromkeys(row.instance for row in comparison.rows))
    methods = list(dict.fromkeys(row.method for row in comparison.rows))
    with_history = any(result.history for result in comparison.results.values())
    panels = 2 if with_history else 1
    width = max(6.0, 0.5 * len(instances) * (len(methods) + 1))
    figure, axes = new_figure(min(width + 5.0 * (panels - 1), 40.0), 4.2, panels, [width, 5.0][:panels])
    _draw_costs(axes[0], comparison, instances, methods)
    if with_history:
        _draw_histories(axes[1], comparison, methods)
    save_figure(figure, path)


def _draw_costs(axis: "Axes", comparison: Comparison, instances: list[str], methods: list[str]) -> None:
    step = 0.8 / len(methods)
    for k, method in enumerate(methods):
        label: str | None = method
        for row in comparison.rows:
            if row.method != method or row.cost_per_hour is None:
                continue
            x = instances.index(row.instance) + (k + 0.5) * step - 0.4
            violates = bool(row.workloads_over_slo)
            bars = axis.bar(
                x,
                row.cost_per_hour,
                step * 0.92,
                color=COLOURS[k % len(COLOURS)],
                alpha=0.35 if violates else 1.0,
                hatch="///" if violates else None,
                label=label,
            )
            text = f"{row.gpus}" + (f"\n{row.workloads_over_slo} over SLO" if violates else "")
            axis.bar_label(bars, [text], fontsize=7)
            if row.lower_bound_per_hour is not None:
                axis.plot([x - step / 2, x + step / 2], [row.lower_bound_per_hour] * 2, color="black", linewidth=1.6)
            label = None
    axis.set_xticks(range(len(instances)), instances, rotation=15 if len(instances) > 3 else 0)
    axis.set_ylabel("cost per hour")
    axis.margins(y=0.15)
    axis.set_title("number on bars: GPUs; hatched: violates SLOs; black line: proven bound", fontsize=8)
    axis.legend(fontsize=8, frameon=False, ncols=2)


def _draw_histories(axis: "Axes", comparison: Comparison, methods: list[str]) -> None:
    """Incumbent and bound over time of the solves that report progress, as far as colours last."""
    found = {key: result for key, result in comparison.results.items() if result.history}
    shown = list(found.items())[: len(COLOURS)]
    instances = {instance for (instance, _), _ in shown}
    asked = {method for (_, method), _ in shown}
    for k, ((instance, method), result) in enumerate(shown):
        # Costs of several instances are far apart: parts of each one's final cost then.
        scale = 1.0 if len(instances) == 1 else result.cost
        # With one instance a method has the colour of its bar.
        colour = COLOURS[(methods.index(method) if len(instances) == 1 else k) % len(COLOURS)]
        points = [
            (entry.elapsed_s, entry.cost, entry.lower_bound) for entry in result.history if entry.phase != "share"
        ]
        end = max(result.plan.solver.runtime_s, result.history[-1].elapsed_s)
        points.append((end, result.cost, result.lower_bound))
        name = method if len(instances) == 1 else instance if len(asked) == 1 else f"{instance} {method}"
        draw_progress(axis, points, colour, name, scale=scale)
    left_out = f"; {len(found) - len(shown)} more solves not drawn" if len(found) > len(shown) else ""
    axis.set_xlabel("seconds")
    axis.set_ylabel("cost per hour" if len(instances) == 1 else "cost per hour / final cost")
    axis.set_title(f"solid: best plan so far; dashed: proven bound{left_out}", fontsize=8)
    axis.margins(y=0.15)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, (1.0 - _LEAST_SPAN) * high), high)
    axis.legend(fontsize=7, frameon=False)


def draw_progress(
    axis: "Axes",
    points: Sequence[tuple[float, float | None, float | None]],
    colour: str,
    label: str,
    *,
    scale: float = 1.0,
) -> None:
    """Draw the best plan's cost (solid) and the proven bound (dashed) over time.

    Parameters
    ----------
    points
        Seconds, cost and bound (None or 0 while unknown) at every change and at the end.
    scale
        Costs are divided by it.
    """
    times = [seconds for seconds, _, _ in points]
    costs = [np.nan if cost is None else cost / scale for _, cost, _ in points]
    bounds = [bound / scale if bound else np.nan for _, _, bound in points]
    axis.step(times, costs, where="post", color=colour, label=label)
    axis.step(times, bounds, where="post", color=colour, linestyle="--")
    axis.plot(times[-1:], costs[-1:], marker="o", markersize=4, color=colour)
    axis.plot(times[-1:], bounds[-1:], marker="_", markersize=7, color=colour)
