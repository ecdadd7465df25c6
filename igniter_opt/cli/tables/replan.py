"""Tables of re-planning: what changes, what is proven, and the steps there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from igniter_opt.base.text import counted, rounded
from igniter_opt.cli import console
from igniter_opt.cli.tables.differences import print_plan_diff
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.data.migration import Disruption, MigratedServer, Migration, MigrationStep
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.plan_diff import diff_plans

if TYPE_CHECKING:
    from igniter_opt.replan import Replanned

# The rates for which an order was made.
_RATES = {
    "both": "at the running plan's rates and at the new ones",
    "running": "at the running plan's rates; the new ones hold when all is done",
    "next": "at the new rates, which should hold before it begins",
    "lesser": "at the lesser of each workload's rates in the two plans",
    "own": "with every server at the rate that its own plan gives it",
}


def print_replanned(running: Plan, found: "Replanned") -> None:
    """Print how a new plan differs from the running one, what is proven, and the order of steps."""
    out = console.stdout()
    print_plan_diff(diff_plans(running, found.plan))
    solver = found.plan.solver
    bound = solver.lower_bound_per_hour
    proven = "heuristic: no bound" if bound is None else f"bound {rounded(bound, PRICE_DECIMALS)}, {solver.status}"
    currency = escape(found.plan.instance.currency)
    out.print(f"cost: {rounded(solver.cost_per_hour, PRICE_DECIMALS)} {currency} per hour ({proven})")
    out.print(disruption_line(found.disruption))
    print_migration(found.migration)


def disruption_line(done: Disruption) -> str:
    """Say what becomes of servers, and what is proven of it."""
    if done.bound is None:
        proven = "heuristic: no bound"
    else:
        proven = f"bound {rounded(done.bound)}" + (", optimal" if done.weighted <= done.bound + 1e-9 else "")
    return (
        f"disruption: {rounded(done.weighted)} ({proven}): {counted(done.moves, 'move')},"
        f" {counted(done.restarts, 'restart')} and {counted(done.resizes, 'resize')} in place;"
        f" {counted(done.starts, 'server')} more, {done.stops} fewer, {done.kept} kept"
    )


def print_migration(migration: Migration) -> None:
    """Print the steps, and what does not hold on the way."""
    out = console.stdout()
    if not migration.steps:
        out.print("migration: no server starts or stops")
        return
    steps = counted(len(migration.steps), "step")
    out.print(f"migration: {steps}, verified {_RATES[migration.rates]}")
    table = new_table()
    for title in ("step", "start", "then stop", "holds at rates"):
        table.add_column(title)
    for number, step in enumerate(migration.steps, 1):
        table.add_row(str(number), _names(step.start), _names(step.stop), _holds(step))
    print_table(out, table)
    gaps = sorted({name for step in migration.steps for name in step.gap})
    short = sorted({name for step in migration.steps for name in step.short})
    if migration.spare:
        out.print(f"on the way only: {', '.join(escape(gpu.name) for gpu in migration.spare)}")
    if gaps:
        out.print(
            f"[yellow]without a server for a while, since no GPU has room for old and new: {escape(', '.join(gaps))}"
            "[/] (--spare-gpus allows further GPUs on the way)"
        )
    if short:
        out.print(f"[yellow]short of servers for a while, and not within limits: {escape(', '.join(short))}[/]")


def _names(servers: Sequence[MigratedServer]) -> str:
    return escape(", ".join(server.placement for server in servers)) or "-"


def _holds(step: MigrationStep) -> str:
    said = ", ".join(step.holds) or "none"
    for what, names in (("gap", step.gap), ("short", step.short)):
        said += f"; {what}: {escape(', '.join(names))}" if names else ""
    return said
