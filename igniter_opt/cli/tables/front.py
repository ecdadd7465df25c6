"""The table of a front."""

from rich.markup import escape

from igniter_opt.base.text import counted, rounded
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.front import SAME_SHARE_PERCENT, Front
from igniter_opt.result import limits_of_proof


def print_front(found: Front) -> None:
    """Print the points of a front, and what is proven."""
    console, table = stdout(), new_table()
    for title in ("cost/h", "GPUs", "total share %", "at least %", "free %"):
        table.add_column(title, justify="right")
    table.add_column("proven")
    for row in found.to_dicts():
        table.add_row(
            rounded(row["cost_per_hour"], PRICE_DECIMALS),
            str(row["gpus"]),
            f"{row['total_share_percent']:.1f}",
            f"{row['total_share_lower_bound_percent']:.1f}",
            f"{row['free_share_percent']:.1f}",
            "yes" if row["proven"] else "no",
        )
    print_table(console, table, keys=1)
    plan = found.points[0].plan
    least = "proven least" if found.points[0].status == "optimal" else f"bound {rounded(found.lower_bound or 0.0)}"
    settled = "this is proven to be the front"
    if not found.complete and found.open_percent <= SAME_SHARE_PERCENT:
        settled = "from the first cost on this is proven to be the front"
    elif not found.complete:
        settled = f"no other plan saves more than {found.open_percent:.1f} % of share at any budget"
    console.print(
        f"{escape(plan.instance.name)}: {counted(len(found.points), 'plan')}, costs in {escape(plan.instance.currency)}"
        f" per hour; the first cost is {least}; budgets up to {rounded(found.most_cost, PRICE_DECIMALS)}: {settled}",
        soft_wrap=True,
    )
    console.print("at least: no plan that costs no more takes less; free: share left on its GPUs", soft_wrap=True)
    within = limits_of_proof(plan)
    if within is not None:
        console.print(escape(f"proofs are within {within}"), soft_wrap=True)
