"""Plot of a simulation: every workload's latency distribution against its SLO, worst first."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.ticker
import numpy as np

from igniter_opt.data.instance import percentile_name
from igniter_opt.report.palette import BEST, INK, VIOLATION
from igniter_opt.report.plots import new_grid, save_figure
from igniter_opt.simulation.results import ServiceStatistics, Simulation
from igniter_opt.simulation.statistics import CURVE
from igniter_opt.simulation.traffic import arrivals_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 24
_COLUMNS = 4
_TICKS = (0.0, 0.5, 0.9, 0.99, 0.999)
# Latencies over SLO outside of this are not drawn, so that the SLO stays in sight.
_X_RANGE = (0.02, 1000.0)


def plot_latencies(simulation: Simulation, path: Path) -> None:
    """Draw the distribution of latency over SLO in small multiples, the workloads that are worst off first.

    The vertical axis is stretched towards 1 (equal steps per nine), so that the percentile that counts is as visible
    as the median. A workload holds if its curve passes the judged percentile left of its SLO.
    """
    entries = sorted(simulation.workloads, key=lambda entry: -entry.percentile_over_slo)
    shown = entries[:MOST_PANELS]
    columns = min(_COLUMNS, len(shown))
    figure, panels = new_grid(max(5.5, 3.1 * columns), -(-len(shown) // columns), columns, 1.75, 1.1)
    curves = [entry.curve_ms / entry.slo_ms for entry in shown]
    finite = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    low = max(_X_RANGE[0], min(0.5, float(finite.min(initial=1.0)) / 1.1))
    high = min(_X_RANGE[1], max(2.0, float(finite.max(initial=1.0)) * 1.1))
    for axis, entry, curve in zip(panels.flat, shown, curves, strict=False):
        _draw(axis, entry, curve)
        axis.set_xlim(low, high)
        # 1, 2, 5 where there is room for them, else powers of ten.
        axis.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100.0 else (1.0,)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    for axis in panels.flat[len(shown) :]:
        axis.set_visible(False)
    over, count = len(simulation.workloads_over_slo), len(entries)
    left_out = f"; the {len(shown)} worst shown" if len(shown) < count else ""
    figure.suptitle(
        f"{simulation.instance}, {arrivals_words(simulation.settings)}: {count - over} of {count} workloads hold,"
        f" {100 * simulation.violation_ratio:.1f} % of requests over SLO{left_out}",
        fontsize=11,
    )
    figure.supxlabel("latency / SLO (solid line: the SLO; dot: the percentile that must be left of it)", fontsize=9)
    figure.supylabel("part of requests", fontsize=9)
    save_figure(figure, path)


def _draw(axis: "Axes", entry: ServiceStatistics, curve: np.ndarray) -> None:
    colour = BEST if entry.holds else VIOLATION
    axis.axvline(1.0, color=INK, linewidth=0.8)
    axis.axhline(_nines(entry.percentile), color=INK, linewidth=0.5, linestyle=":")
    axis.plot(curve, [_nines(at) for at in CURVE], color=colour, linewidth=1.5)
    axis.plot(entry.percentile_over_slo, _nines(entry.percentile), marker="o", color=colour, markersize=4)
    axis.set_xscale("log")
    axis.set_ylim(0.0, _nines(max(*_TICKS, entry.percentile)) + 0.15)
    axis.set_yticks([_nines(at) for at in _TICKS], [f"{100 * at:g} %" for at in _TICKS], fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    value = entry.estimates["percentile_ms"].value
    axis.set_title(
        f"{entry.workload} ({entry.model})\n"
        f"{percentile_name(entry.percentile)} {value:.4g} ms, SLO {entry.slo_ms:g} ms",
        fontsize=8,
        color=INK if entry.holds else VIOLATION,
    )


def _nines(probability: float) -> float:
    """Number of nines of a probability, at most those of the last point of `CURVE`."""
    return -math.log10(1.0 - min(probability, float(CURVE[-1])))
