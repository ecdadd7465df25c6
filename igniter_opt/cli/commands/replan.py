"""The command ``replan``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base import command
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import InputError
from igniter_opt.base.kinds import PLAN
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli import completion, console
from igniter_opt.cli.inputs import STANDARD_INPUT, instance_of
from igniter_opt.cli.options import (
    Coefficients,
    Confidence,
    Gap,
    InstanceArgument,
    Json,
    Percentile,
    PlanMargin,
    PlanScale,
    Replicas,
    Rule,
    SolverSeed,
    TimeLimit,
    rule_named,
)
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.data.migration import DisruptionWeights
from igniter_opt.data.plan import plan_json, read_plan, write_plan
from igniter_opt.methods import METHODS
from igniter_opt.options import DEFAULT_TIME_LIMIT_S, SolveOptions


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("replan")(replan_command)


def replan_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan that runs.")],
    instance: InstanceArgument,
    method: Annotated[
        str, typer.Option(help=f"For the least cost; one of: {', '.join(METHODS)}.", autocompletion=completion.methods)
    ] = "auto",
    weights: Annotated[
        str, typer.Option(metavar="M,R,S", help="What a move, a restart and a resize in place count.")
    ] = "1,0.2,0.1",
    move_price: Annotated[
        float | None,
        typer.Option(metavar="P", help="What a move may cost per hour. Default: nothing, least cost comes first."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="WORKLOAD", help="Its servers stay on their GPUs; repeat for several."),
    ] = None,
    max_moves: Annotated[
        int | None, typer.Option(metavar="N", help="So many servers may move at most; a plan may be dearer for it.")
    ] = None,
    spare_gpus: Annotated[
        int, typer.Option(metavar="N", help="GPUs of each type that may be used on the way only.")
    ] = 0,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT_S,
    gap: Gap = 0.0,
    margin: PlanMargin = None,
    confidence: Confidence = None,
    coefficients: Coefficients = None,
    slo_rule: Rule = None,
    max_replicas: Replicas = None,
    percentile: Percentile = None,
    scale: PlanScale = None,
    seed: SolverSeed = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PLAN", help="Write the plan; - prints it, as --json does.")
    ] = None,
    json: Json = False,
) -> None:
    """Find a plan for changed workloads that disrupts a running plan as little as its cost allows, and the way there.

    Margin and confidence are the running plan's unless given. The plan holds the order in which servers start and
    stop, all of whose states are verified; `deploy` follows it.

    Example: igniter-opt replan plan.json igniter-table3 -o next.json
    """
    running, wanted = read_plan(plan), instance_of(instance)
    weighed = weights_of(weights)
    if output is not None and str(output) == STANDARD_INPUT:
        output, json = None, True
    check_outputs(output, PLAN, None, [instance, plan], "what is read")
    from igniter_opt.cli.tables.replan import print_replanned
    from igniter_opt.replan import ReplanTerms, replan
    from igniter_opt.result import problem_line

    terms = ReplanTerms(
        weights=weighed,
        move_price=move_price,
        keep=tuple(keep or ()),
        max_moves=max_moves,
        spare_gpus=spare_gpus,
    )
    options = SolveOptions(
        time_limit=time_limit,
        gap=gap,
        margin=margin,
        confidence=confidence,
        coefficients=coefficients,
        slo_rule=rule_named(slo_rule),
        max_replicas=max_replicas,
        percentile=percentile,
        scale=scale,
        seed=seed,
    )
    stop = StopRequest()
    with stop.then_deaf():
        printer = console.ProgressPrinter(problem_line(options.applied(wanted), method))
        found = replan(running, wanted, method, terms, options, on_progress=printer, stop=stop)
        if found.interrupted:
            command.ignores_interrupts()
        if output is not None:
            write_plan(found.plan, output)
        if json:
            print(plan_json(found.plan), end="")
        else:
            print_replanned(running, found)
        if found.interrupted:
            console.message("interrupted: this is the best plan so far")
            raise typer.Exit(EXIT_INTERRUPTED)


def weights_of(text: str) -> DisruptionWeights:
    """Return the weights that an option names."""
    try:
        move, restart, resize = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--weights {text}: must be three numbers, as in 1,0.2,0.1 (move, restart, resize)") from None
    return DisruptionWeights(move, restart, resize)
