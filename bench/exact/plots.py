"""Plots of `bench.exact`: cost and bound over time, and gap and time to proof over the number of workloads.

Run: python -m bench.exact.plots bench/results/exact-DATE.csv
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.exact.run import METHODS, SOLVERS, Row
from bench.exact.table import read_rows
from igniter_opt.methods import REFERENCE_METHOD
from igniter_opt.report.palette import LINES, MUTED, USUAL
from igniter_opt.report.plots import draw_progress, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Shown over time, as far as they are in the table, and others if these are not enough.
OVER_TIME = ("uniform-100-1", "synthetic-types-100-1", "uniform-1000-1")
MOST_OVER_TIME = 3
# The strongest colour for the product's own method, greys for the heuristics.
EXACT = ("patterns", "assignment", *SOLVERS)
COLOUR = dict(zip(EXACT, LINES, strict=False)) | {"igniter": MUTED, "bestfit": USUAL}
MARKER = dict(zip(METHODS, ("o", "s", "^", "D", "v", "P", "X"), strict=True))
# Time axes are logarithmic; shorter times are drawn here.
LEAST_S = 0.05


def draw(rows: Sequence[Row], table: Path) -> list[Path]:
    """Draw all plots beside a table; return their paths (none where the rows have nothing to draw)."""
    drawn = []
    for name, plot in (("over-time", draw_over_time), ("scaling", draw_scaling)):
        path = table.with_name(f"{table.stem}-{name}.svg")
        if plot(rows, path):
            drawn.append(path)
    return drawn


def draw_over_time(rows: Sequence[Row], path: Path) -> bool:
    """Draw incumbents and bounds over time, one panel per instance."""
    instances = _instances_over_time(rows)
    if not instances:
        return False
    figure, axes = new_figure(4.6 * len(instances), 3.8, len(instances), [1.0] * len(instances))
    for axis, instance in zip(axes, instances, strict=True):
        for row in rows:
            if row.instance != instance or not row.history:
                continue
            if row.method in EXACT:
                points = [(max(LEAST_S, entry.seconds), entry.cost, entry.bound) for entry in row.history]
                draw_progress(axis, points, COLOUR[row.method], row.method)
            elif row.cost_per_hour is not None:
                seconds = max(LEAST_S, row.total_s or 0.0)
                axis.plot(
                    seconds, row.cost_per_hour, MARKER[row.method], color=COLOUR[row.method], label=row.method, zorder=3
                )
                if row.method == REFERENCE_METHOD:
                    axis.axhline(row.cost_per_hour, color=COLOUR[row.method], linestyle=":", linewidth=0.8)
        _logarithmic(axis, "x")
        axis.set_xlabel("seconds")
        axis.set_title(instance, fontsize=9)
        axis.margins(y=0.1)
    axes[0].set_ylabel("cost per hour")
    axes[-1].legend(fontsize=7, frameon=False)
    figure.suptitle("solid: best plan so far; dashed: proven bound", fontsize=8)
    save_figure(figure, path)
    return True


def _instances_over_time(rows: Sequence[Row]) -> list[str]:
    """Return the instances to show: the preferred ones, then those whose histories are longest."""
    length: dict[str, int] = {}
    for row in rows:
        if row.method in EXACT and row.history:
            length[row.instance] = max(length.get(row.instance, 0), len(row.history))
    others = sorted(length, key=lambda name: -length[name])
    wanted = [name for name in OVER_TIME if name in length] + others
    chosen = list(dict.fromkeys(wanted))[:MOST_OVER_TIME]
    return [name for name in dict.fromkeys(row.instance for row in rows) if name in chosen]


def draw_scaling(rows: Sequence[Row], path: Path) -> bool:
    """Draw gap, time to proof and peak memory over the number of workloads, by method."""
    rows = [row for row in rows if row.total_s is not None]
    exact = [row for row in rows if row.method in EXACT and row.gap_percent is not None]
    if not exact:
        return False
    figure, axes = new_figure(13.0, 3.8, 3, [1.0, 1.0, 1.0])
    for method in dict.fromkeys(row.method for row in exact):
        mine = [row for row in exact if row.method == method]
        shift = 1.0 + 0.06 * (EXACT.index(method) - 1)
        for k, row in enumerate(mine):
            label = method if k == 0 else None
            proven = row.proof_s is not None
            seconds = max(LEAST_S, row.proof_s if row.proof_s is not None else row.total_s or 0.0)
            for axis, value in ((axes[0], max(0.0, row.gap_percent or 0.0)), (axes[1], seconds)):
                _point(axis, row.workloads * shift, value, method, filled=proven, label=label)
    axes[0].set_ylabel("gap %")
    # From 0, and where nothing is left open not less than a percent high, so that no gap looks like one.
    axes[0].set_ylim(0.0, max(1.0, axes[0].get_ylim()[1]))
    axes[0].set_title("gap between best plan and proven bound (filled: proven optimal)", fontsize=8)
    axes[1].set_ylabel("seconds")
    _logarithmic(axes[1], "y")
    axes[1].set_title("time to proof (filled); hollow: time spent, not proven", fontsize=8)
    for method in dict.fromkeys(row.method for row in rows):
        found = sorted((row.workloads, row.peak_mib) for row in rows if row.method == method and row.peak_mib)
        if found:
            axes[2].plot(
                [size for size, _ in found], [peak for _, peak in found], MARKER[method], color=COLOUR[method],
                label=method, markersize=4, alpha=0.8,
            )  # fmt: skip
    axes[2].set_ylabel("peak memory of the process (MiB)")
    axes[2].set_ylim(bottom=0)
    sizes = _apart(sorted({row.workloads for row in rows}))
    for axis in axes:
        _logarithmic(axis, "x")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.set_xlabel("workloads")
        axis.legend(fontsize=7, frameon=False)
    save_figure(figure, path)
    return True


def _logarithmic(axes: "Axes", which: str) -> None:
    """Make the x or y axis logarithmic, with plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def _apart(sizes: list[int]) -> list[int]:
    """Drop sizes whose labels would overlap on a logarithmic axis."""
    kept: list[int] = []
    for size in sizes:
        if not kept or size >= 1.5 * kept[-1]:
            kept.append(size)
    return kept


def _point(axis: "Axes", x: float, y: float, method: str, *, filled: bool, label: str | None) -> None:
    colour = COLOUR[method]
    axis.plot(
        x,
        y,
        MARKER[method],
        markersize=5,
        markeredgecolor=colour,
        markerfacecolor=colour if filled else "none",
        label=label,
        linestyle="",
        clip_on=False,
    )


def main() -> None:
    """Draw the plots of the tables named on the command line."""
    for name in sys.argv[1:]:
        for path in draw(read_rows(Path(name)), Path(name)):
            print(f"drew {path.name}")


if __name__ == "__main__":
    main()
