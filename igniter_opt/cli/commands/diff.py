"""The command ``diff``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import EXIT_NO
from igniter_opt.cli import console
from igniter_opt.cli.options import Json
from igniter_opt.data.plan import read_plan


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("diff")(diff_command)


def diff_command(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A plan file.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A plan file to compare with it.")],
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit code 1 if the plans differ.")] = False,
    no_dearer: Annotated[
        bool, typer.Option("--no-dearer", help="Exit code 1 if NEW costs more than OLD would, by the prices in NEW.")
    ] = False,
    json: Json = False,
) -> None:
    """Show how a plan differs from another: workloads, GPU types, placements, price. Whether they hold, `verify` says.

    GPUs are matched as `deploy` would match them, so that most placements stay; how GPUs are called is no difference.

    Example: igniter-opt diff plan.json plan.json --exit-code
    """
    plans = read_plan(old), read_plan(new)
    from igniter_opt.cli.tables.differences import print_plan_diff
    from igniter_opt.deploy.plan_diff import diff_plans

    found = diff_plans(*plans)
    if json:
        console.print_json(found.to_dict())
    else:
        print_plan_diff(found)
    before = found.old_cost_at_new_prices
    if no_dearer and found.dearer and before is not None:
        more = found.new_cost.cost_per_hour - before.cost_per_hour
        by = f" by the prices in {new}" if found.repriced else ""
        console.message(f"{new} costs {more:.6g} {found.new_cost.currency} per hour more than {old}{by}")
    if (exit_code and not found.same) or (no_dearer and found.dearer):
        raise typer.Exit(EXIT_NO)
