"""The table of a schedule: what it comes to, beside what else could be done."""

from typing import TYPE_CHECKING

from rich.markup import escape

from igniter_opt.base.text import counted, rounded
from igniter_opt.cli import console
from igniter_opt.cli.tables.layout import new_table, print_table

if TYPE_CHECKING:
    from igniter_opt.scheduling.account import Totals
    from igniter_opt.scheduling.outcome import Scheduled

WORDS = {
    "schedule": "this schedule",
    "peak": "one plan for the peak",
    "afresh": "each step afresh",
    "greedy": "greedy, each step",
}


def print_schedule(found: "Scheduled") -> None:
    """Print totals and what is proven."""
    out, currency = console.stdout(), escape(found.instance.currency)
    table = new_table()
    table.add_column("plans")
    forecast = found.terms.forecast is not None
    titles = ["cost", "GPUs' cost", "GPU-hours", "most GPUs", "GPU starts", "moves", "restarts", "resizes"]
    for title in [*titles, "missed"] if forecast else titles:
        table.add_column(title, justify="right")
    for name, entry in found.totals.items():
        table.add_row(WORDS[name], *_cells(entry), *([str(entry.violations)] if forecast else []))
    print_table(out, table)
    out.print(
        f"bound: {rounded(found.bound)} {currency} for any schedule; this one is within {rounded(100 * found.gap)} %"
        f" ({found.proven} of {counted(found.steps, 'step')} of {rounded(found.demand.step_s / 3600.0)} h proven by"
        " themselves)",
        soft_wrap=True,
    )
    if found.source != "schedule":
        out.print(f"the cheapest found is: {WORDS[found.source]}")
    if forecast:
        late = sum(map(bool, found.over))
        out.print(
            f"missed: workloads over SLO or rate at the demand that came, by the predictor, summed over steps"
            f" ({found.steps * len(found.instance.workloads):,}); this schedule misses some in {counted(late, 'step')}",
            soft_wrap=True,
        )


def _cells(entry: "Totals") -> list[str]:
    return [
        rounded(entry.cost),
        rounded(entry.gpu_cost),
        rounded(entry.gpu_hours),
        *(str(number) for number in (entry.most_gpus, entry.gpu_starts, entry.moves, entry.restarts, entry.resizes)),
    ]
