"""The command ``verify``."""

import typer
import typer.core

from igniter_opt.base.errors import EXIT_NO
from igniter_opt.cli import console
from igniter_opt.cli.inputs import plan_of
from igniter_opt.cli.options import Json, PlanInput


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("verify")(verify_command)


def verify_command(
    plan: PlanInput,
    json: Json = False,
) -> None:
    """Recompute a plan from its own instance and profile, and judge it. Exit code 1 if it does not hold.

    Example: igniter-opt verify plan.json
    """
    loaded = plan_of(plan)
    from igniter_opt.cli.tables.plans import print_verification
    from igniter_opt.verify import verify

    verification = verify(loaded)
    if json:
        console.print_json(verification.to_dict())
    else:
        print_verification(loaded, verification)
    if not verification.ok:
        raise typer.Exit(EXIT_NO)
