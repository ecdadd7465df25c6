"""The command ``explain``."""

from typing import Annotated

import typer
import typer.core

from igniter_opt.cli import completion, console
from igniter_opt.cli.inputs import plan_of
from igniter_opt.cli.options import Json, PlanInput


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("explain")(explain_command)


def explain_command(
    plan: PlanInput,
    workload: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORKLOAD]",
            help="Say all about this one, or its replica (W1#2). Default: a line on each.",
            autocompletion=completion.workloads,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say why workloads are where they are: what binds, what neighbours add, what other places would do.

    Example: igniter-opt explain plan.json W1
    """
    loaded = plan_of(plan)
    from igniter_opt.cli.tables.explanation import print_explanation
    from igniter_opt.explain import explain

    explanation = explain(loaded, workload, on_progress=console.CountPrinter("placements"))
    if json:
        console.print_json(explanation.to_dict())
    else:
        print_explanation(explanation, in_full=workload is not None)
