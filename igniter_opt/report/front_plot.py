"""The plot of a front: total share over cost, with what is proven of it."""

from igniter_opt.base.files import StrPath
from igniter_opt.front import Front
from igniter_opt.report.palette import BEST, INK, MUTED
from igniter_opt.report.plots import SMALL, new_figure, save_figure
from igniter_opt.report.tables import number


def plot_front(found: Front, path: StrPath) -> None:
    """Draw the total share of every point and the proven bound over cost; between points the cheaper one serves."""
    figure, (axis,) = new_figure(6.4, 3.8, 1, [1.0])
    rows = found.to_dicts()
    costs = [row["cost_per_hour"] for row in rows]
    shares = [row["total_share_percent"] for row in rows]
    bounds = [row["total_share_lower_bound_percent"] for row in rows]
    end = max(found.most_cost, costs[-1])
    axis.step([*costs, end], [*shares, shares[-1]], where="post", color=BEST, label="least total share found")
    # What is proven at a budget is proven at all smaller ones.
    axis.step([*costs, end], [*bounds, bounds[-1]], where="pre", color=MUTED, linestyle="--", label="proven bound")
    axis.plot(costs, shares, "o", color=BEST)
    for row in rows:
        axis.annotate(
            f"{row['gpus']} GPUs, {number(row['free_share_percent'], 1)} % free",
            (row["cost_per_hour"], row["total_share_percent"]),
            xytext=(4, 5),
            textcoords="offset points",
            fontsize=SMALL,
            color=INK,
        )
    axis.margins(x=0.08, y=0.18)
    instance = found.points[0].plan.instance
    axis.set_xlabel(f"cost, {instance.currency} per hour")
    axis.set_ylabel("total share, % of one GPU")
    axis.set_title(f"{instance.name}: cost against room on the cards", fontsize=10, loc="left")
    axis.legend(frameon=False, fontsize=SMALL)
    save_figure(figure, path)
