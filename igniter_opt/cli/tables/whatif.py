"""What `whatif` found, on the terminal: a line a point, and the steps."""

from rich.markup import escape

from igniter_opt.base.text import counted
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.report.tables import number
from igniter_opt.sweeps.results import Sweep

# Of points without a plan or a proof, so many say why.
_MOST_MESSAGES = 5


def print_sweep(sweep: Sweep) -> None:
    """Print the points, the steps between them, and how much was solved."""
    console, table = stdout(), new_table()
    for axis in sweep.axes:
        table.add_column(escape(axis.key), justify="right")
    for title, justify in (("cost/h", "right"), ("bound/h", "right"), ("status", "left"), ("GPUs", "left")):
        table.add_column(title, justify="right" if justify == "right" else "left")
    for point in sweep.points:
        status = point.status if point.plan is not None else f"[red]{point.status}[/red]"
        bound = None if point.infeasible else point.lower_bound_per_hour
        cells = [number(point.cost_per_hour, 2), number(bound, 2), status, escape(point.mix)]
        table.add_row(*(f"{value:.6g}" for value in point.coordinates), *cells)
    print_table(console, table, keys=len(sweep.axes))
    for axis in sweep.axes:
        console.print(f"{escape(axis.key)}: {escape(axis.title(sweep.currency))}", soft_wrap=True)
    console.print(f"costs in {escape(sweep.currency)}", soft_wrap=True)
    for step in sweep.steps:
        console.print(f"{escape(step.words)}{' (proven)' if step.proven else ' (not proven)'}", soft_wrap=True)
    proven, solved = sum(point.proven for point in sweep.points), sum(point.solved for point in sweep.points)
    within = f" within {sweep.within}" if sweep.within else ""
    console.print(
        f"{counted(len(sweep.points), 'point')}: {proven} proven{within}, {solved} solved, the others by plans and"
        f" bounds of those; {sweep.elapsed_s:.1f} s",
        soft_wrap=True,
    )
    said = [point for point in sweep.points if point.message and not point.proven]
    for point in said[:_MOST_MESSAGES]:
        at = ", ".join(f"{axis.key} {value:.6g}" for axis, value in zip(sweep.axes, point.coordinates, strict=True))
        console.print(f"{escape(at)}: {escape(point.message or '')}", soft_wrap=True)
    if len(said) > _MOST_MESSAGES:
        console.print(f"... and {len(said) - _MOST_MESSAGES} more")
