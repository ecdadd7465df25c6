"""Plot of a profile: every model's measured latencies over the share, with what its coefficients say."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.ticker
import numpy as np

from igniter_opt.data.profile import ModelProfile, Profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import predict_many
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.profiler.check import ProfileCheck
from igniter_opt.report.palette import LINES
from igniter_opt.report.plots import new_grid, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4
_MOST_PANELS = 24
# Batches that have no colour of their own left are not drawn.
_MOST_BATCHES = len(LINES)


def plot_profile(profile: Profile, check: ProfileCheck, path: Path) -> None:
    """Draw GPU latency over the share in small multiples, one line per batch; dots measured, lines fitted."""
    coefficients = fit_coefficients(profile.bare())
    shown = list(profile.models)[:_MOST_PANELS]
    columns = min(_COLUMNS, len(shown))
    figure, panels = new_grid(max(5.5, 3.1 * columns), -(-len(shown) // columns), columns, 2.1, 1.1)
    errors = {entry.model: entry for entry in check.models}
    for axis, name in zip(panels.flat, shown, strict=False):
        _draw(axis, name, profile.models[name], coefficients)
        entry = errors[name]
        axis.set_title(
            f"{name}\nmean error {100 * entry.mean_error:.1f} %, worst {100 * entry.worst_error:.0f} %", fontsize=8
        )
    for axis in panels.flat[len(shown) :]:
        axis.set_visible(False)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    figure.suptitle(f"{profile.name} ({profile.hardware.gpu}): solo latencies, measured and fitted", fontsize=11)
    figure.supxlabel("share of the GPU's SMs (%)", fontsize=9)
    figure.supylabel("GPU latency (ms)", fontsize=9)
    save_figure(figure, path)


def _draw(axis: "Axes", name: str, model: ModelProfile, coefficients: Coefficients) -> None:
    grid = model.solo_grid
    share = np.geomspace(grid.share_percent[0], grid.share_percent[-1], 60)[:, None]
    index = np.full(share.shape, coefficients.index(name))
    for k, batch in enumerate(grid.batch[:_MOST_BATCHES]):
        fitted = predict_many(coefficients, index, np.full(share.shape, batch), share).gpu_latency_ms
        axis.plot(share, np.where(fitted > 0, fitted, np.nan), color=LINES[k], linewidth=1)
        axis.plot(grid.share_percent, grid.gpu_latency_ms[k], "o", color=LINES[k], markersize=3, label=f"batch {batch}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        one.set_major_formatter(lambda value, _: f"{value:g}")
        one.set_minor_formatter(mpl.ticker.NullFormatter())
    axis.tick_params(labelsize=7)
