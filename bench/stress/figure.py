"""Cost of plans against the part of SLOs that hold when latencies and rates are a quarter higher."""

from collections.abc import Sequence
from pathlib import Path

from bench.stress.table import Row
from igniter_opt.report.palette import LINES, MUTED, USUAL
from igniter_opt.report.plots import new_figure, save_figure

COLOUR = {"patterns": LINES[0], "bestfit": USUAL, "igniter": MUTED}
MARKER = {"patterns": "o", "bestfit": "v", "igniter": "D"}
SHOWN = "both 1.25"


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Draw a panel for every instance and rule; return False where there is nothing to draw."""
    panels = list(dict.fromkeys((row.instance, row.rule) for row in rows if SHOWN in row.held))
    if not panels:
        return False
    figure, axes = new_figure(3.0 * len(panels), 3.2, len(panels), [1.0] * len(panels))
    for axis, (instance, rule) in zip(axes, panels, strict=True):
        for method, colour in COLOUR.items():
            mine = [row for row in rows if (row.instance, row.rule, row.method) == (instance, rule, method)]
            points = [(row.cost_per_hour, row.held[SHOWN].held / row.workloads) for row in mine if SHOWN in row.held]
            if points:
                costs, parts = zip(*points, strict=True)
                axis.plot(costs, parts, MARKER[method], color=colour, label=method, alpha=0.8)
        axis.set_title(f"{instance}, {rule}", fontsize=9)
        axis.set_xlabel("cost per hour")
        axis.set_ylim(-0.04, 1.04)
    axes[0].set_ylabel("part of workloads that hold")
    axes[0].legend(fontsize=7, frameon=False)
    figure.suptitle("plans by every setting, when all latencies and rates are 1.25 times the plan's", fontsize=8)
    save_figure(figure, path)
    return True
