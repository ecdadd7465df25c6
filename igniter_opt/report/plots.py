"""Plots: a plan's GPUs as stacked shares with latencies against limits, and a comparison's costs."""

import io
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
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_VIOLATION = "#B00020"


def check_plot_path(path: Path) -> None:
    """Raise InputError unless a plot can be written at `path`."""
    if path.suffix.lstrip(".").lower() not in FORMATS:
        raise InputError(f"{path}: a plot's file name must end in {', '.join('.' + name for name in FORMATS)}")
    check_writable(path)


def _new_figure(width: float, height: float, columns: int, ratios: list[float]) -> tuple["Figure", "np.ndarray"]:
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "igniter-opt"
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, width_ratios=ratios, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: "Figure", path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lstrip(".").lower(), dpi=150)
    write_bytes_atomically(path, buffer.getvalue())


def plot_plan(result: Result, path: Path) -> None:
    """Draw a plan: stacked shares per GPU, and every placement's latency as a fraction of its limit."""
    plan = result.plan
    height = min(60.0, max(2.5, 0.42 * len(plan.gpus) + 1.6))
    figure, (shares, latency) = _new_figure(12, height, 2, [3, 2])
    models = sorted({placement.model for gpu in plan.gpus for placement in gpu.placements})
    colour = {model: _COLOURS[k % len(_COLOURS)] for k, model in enumerate(models)}
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
    _save(figure, path)


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
            color=colour[check.model] if check.ok else _VIOLATION,
            markersize=5,
        )
    axis.axvline(1.0, color="black", linewidth=0.8)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, 0.5), max(high, 1.02))
    axis.set_xlabel("predicted latency / limit")


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Draw cost per hour by instance and method; hatched where the plan violates SLOs, a line at the bound."""
    rows = [row for row in comparison.rows if row.cost_per_hour is not None]
    if not rows:
        raise InputError("nothing to draw: no method found a plan")
    instances = list(dict.fromkeys(row.instance for row in comparison.rows))
    methods = list(dict.fromkeys(row.method for row in comparison.rows))
    with_history = [result for result in comparison.results.values() if len(result.history) > 1]
    panels = 2 if with_history else 1
    width = max(6.0, 0.5 * len(instances) * (len(methods) + 1)) + 4.0 * (panels - 1)
    figure, axes = _new_figure(min(width, 40.0), 4.2, panels, [max(1.5, width / 6), 1][:panels])
    _draw_costs(axes[0], comparison, instances, methods)
    if with_history:
        _draw_history(axes[1], comparison)
    _save(figure, path)


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
                color=_COLOURS[k % len(_COLOURS)],
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


def _draw_history(axis: "Axes", comparison: Comparison) -> None:
    """Incumbent (solid) and bound (dashed) over time of every solve that has a history."""
    shown = [(key, result) for key, result in comparison.results.items() if len(result.history) > 1]
    for k, ((instance, _), result) in enumerate(shown[: len(_COLOURS)]):
        cost_phase = [entry for entry in result.history if entry.phase != "share"] or result.history
        times = [entry.elapsed_s for entry in cost_phase]
        costs = [np.nan if entry.cost is None else entry.cost for entry in cost_phase]
        bounds = [np.nan if entry.lower_bound is None else entry.lower_bound for entry in cost_phase]
        axis.step(times, costs, where="post", color=_COLOURS[k], label=instance)
        axis.step(times, bounds, where="post", color=_COLOURS[k], linestyle="--")
    axis.set_xlabel("seconds")
    axis.set_ylabel("cost per hour")
    axis.set_title("incumbent (solid) and lower bound (dashed)", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
