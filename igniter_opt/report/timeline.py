"""A schedule's picture: GPUs by type over time against the bound, demand, and moves."""

from typing import TYPE_CHECKING

import numpy as np

from igniter_opt.base.files import StrPath
from igniter_opt.report.palette import BEST, FILLS, INK, MUTED, UNUSED, VIOLATION
from igniter_opt.report.plots import SMALL, blank_figure, check_plot_path, save_figure
from igniter_opt.scheduling.account import gpus_by_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from igniter_opt.scheduling.outcome import Scheduled


def timeline(found: "Scheduled", path: StrPath) -> None:
    """Draw a schedule into a file (PNG, SVG or PDF, by its name's ending)."""
    check_plot_path(path)
    save_figure(timeline_figure(found), path)


def timeline_figure(found: "Scheduled") -> "Figure":
    """Return the picture."""
    figure = blank_figure(12, 6.5)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 1.5])
    for axis in panels:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color=UNUSED)
        axis.set_axisbelow(True)
    unit, hours = ("days", 24.0) if found.hours > 72 else ("hours", 1.0)
    edges = np.arange(found.steps + 1) * found.demand.step_s / 3600.0 / hours
    _gpus(panels[0], found, edges)
    _demand(panels[1], found, edges)
    _changes(panels[2], found, edges)
    panels[2].set_xlabel(f"{unit} from {found.demand.when(found.first)}", color=MUTED)
    panels[2].set_xlim(edges[0], edges[-1])
    currency = found.instance.currency
    panels[0].set_title(
        f"{found.instance.name}: {found.cost:,.2f} {currency}, within {100 * found.gap:.2f} % of the least by proof",
        loc="left",
        color=INK,
    )
    return figure


def _gpus(axis: "Axes", found: "Scheduled", edges: np.ndarray) -> None:
    types = [gpu.name for gpu in found.instance.gpu_types]
    counts = [gpus_by_type(plan) for plan in found.plans]
    below = np.zeros(found.steps)
    for number, name in enumerate(types):
        own = np.array([entry.get(name, 0) for entry in counts], dtype=float)
        if own.any():
            axis.stairs(below + own, edges, baseline=below, fill=True, color=FILLS[number % len(FILLS)], label=name)
        below += own
    if len(types) == 1:
        price = found.instance.gpu_types[0].price_per_hour
        axis.stairs(np.array(found.lower_bounds) / price, edges, color=INK, linewidth=1.0, label="proven bound")
    peak = found.totals.get("peak")
    if peak is not None:
        axis.axhline(peak.most_gpus, color=MUTED, linestyle="--", linewidth=1.0, label="for the peak")
    axis.set_ylabel("GPUs", color=MUTED)
    axis.set_ylim(0, None)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=SMALL)


def _demand(axis: "Axes", found: "Scheduled", edges: np.ndarray) -> None:
    axis.stairs(found.real.sum(axis=1), edges, color=BEST, label="demand")
    if found.terms.forecast is not None:
        axis.stairs(found.planned.sum(axis=1), edges, color=MUTED, linewidth=1.0, label="planned for")
        over = np.array([bool(entry) for entry in found.over])
        middle = (edges[:-1] + edges[1:]) / 2
        axis.plot(
            middle[over], found.real.sum(axis=1)[over], "x", color=VIOLATION, markersize=4, label="SLO or rate missed"
        )
    axis.set_ylabel("requests/s", color=MUTED)
    axis.set_ylim(0, None)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=SMALL)


def _changes(axis: "Axes", found: "Scheduled", edges: np.ndarray) -> None:
    width = edges[1] - edges[0]
    below = np.zeros(found.steps)
    for name, colour in (("moves", BEST), ("restarts", FILLS[1]), ("resizes", FILLS[7])):
        own = np.array([getattr(entry, name) for entry in found.disruptions], dtype=float)
        axis.bar(edges[:-1], own, width=width, bottom=below, align="edge", color=colour, label=name)
        below += own
    axis.set_ylabel("servers", color=MUTED)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=SMALL)
