"""The command ``schedule``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base import command
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import describe
from igniter_opt.base.stop import StopRequest
from igniter_opt.base.text import seconds_of
from igniter_opt.cli import completion, console
from igniter_opt.cli.commands.replan import weights_of
from igniter_opt.cli.inputs import instance_of
from igniter_opt.cli.options import (
    Coefficients,
    Confidence,
    Gap,
    Headroom,
    InstanceArgument,
    Json,
    Percentile,
    PlanMargin,
    Replicas,
    Rule,
    SolverSeed,
    TimeLimit,
    rule_named,
)
from igniter_opt.data.demand import read_demand
from igniter_opt.options import SolveOptions

_FORECASTS = ("seasonal", "smoothed", "naive")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("schedule")(schedule_command)


def schedule_command(
    instance: InstanceArgument,
    demand: Annotated[
        Path, typer.Option(metavar="CSV", help="Rates over time: time_s, and a column per workload (req/s).")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Write plans, tables and the picture there.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(metavar="T", help="Length of a step: 30min, 1h. Default: that of the file's rows.")
    ] = None,
    move_cost: Annotated[
        float, typer.Option(metavar="C", help="What a move of a server costs, in the instance's currency.")
    ] = 0.0,
    weights: Annotated[
        str, typer.Option(metavar="M,R,S", help="What a move, a restart and a resize in place count.")
    ] = "1,0.2,0.1",
    headroom: Headroom = None,
    startup: Annotated[str, typer.Option(metavar="T", help="A GPU is rented so long before it serves.")] = "0",
    billing: Annotated[
        str, typer.Option(metavar="T", help="GPUs are billed in whole multiples of this: 1min, 1h. 0: by the second.")
    ] = "0",
    forecast: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Plan for a forecast from the past only: seasonal, smoothed, naive. Default: the demand is known.",
            autocompletion=completion.words(_FORECASTS),
        ),
    ] = None,
    quantile: Annotated[float, typer.Option(metavar="Q", help="Which part of forecasts shall suffice.")] = 0.95,
    season: Annotated[str, typer.Option(metavar="T", help="After how long demand repeats.")] = "1d",
    replan_every: Annotated[
        str, typer.Option(metavar="T", help="How often, and for how long, forecasts are made anew.")
    ] = "1d",
    history: Annotated[
        str, typer.Option(metavar="T", help="So much of the file is past. Default: 0, for forecasts two seasons.")
    ] = "0",
    time_limit: TimeLimit = 300.0,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that solve steps. Default: one per processor.")
    ] = None,
    gap: Gap = 0.0,
    margin: PlanMargin = None,
    confidence: Confidence = None,
    coefficients: Coefficients = None,
    slo_rule: Rule = None,
    max_replicas: Replicas = None,
    percentile: Percentile = None,
    seed: SolverSeed = 0,
    json: Json = False,
) -> None:
    """Find a plan for every step of a demand curve: few GPU-hours, few moves, and a bound on what all costs.

    Steps are solved by themselves first; their bounds add up to one on any schedule. The folder gets schedule.json,
    steps.csv, timeline.svg, and in plans/ a plan for every stretch of steps without changes.

    `instances generate --demand` draws curves to try it with.

    Example: igniter-opt schedule igniter-three --demand demand.csv --step 1h --move-cost 0.3 -o days
    """
    wanted, curve = instance_of(instance), read_demand(demand)
    weighed = weights_of(weights)
    from igniter_opt.cli.tables.schedule import print_schedule
    from igniter_opt.schedule import schedule
    from igniter_opt.scheduling.files import check_folder, write_schedule
    from igniter_opt.scheduling.terms import ScheduleTerms

    if output is not None:
        check_folder(output)
    terms = ScheduleTerms(
        step_s=None if step is None else _seconds("--step", step),
        move_cost=move_cost,
        weights=weighed,
        startup_s=_seconds("--startup", startup),
        billing_s=_seconds("--billing", billing),
        forecast=forecast,
        season_s=_seconds("--season", season),
        quantile=quantile,
        history_s=_seconds("--history", history),
        replan_s=_seconds("--replan-every", replan_every),
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
        headroom=headroom,
        seed=seed,
    )
    stop = StopRequest()
    with stop.then_deaf():
        printer = console.LinePrinter()
        found = schedule(wanted, curve, terms, options, workers=workers, on_progress=printer, stop=stop)
        if found.interrupted:
            command.ignores_interrupts()
        if output is not None:
            from igniter_opt.report.timeline import timeline

            write_schedule(found, output)
            timeline(found, output / "timeline.svg")
        if json:
            console.print_json(found.to_dict())
        else:
            print_schedule(found)
        if output is not None:
            console.message(f"wrote {output}")
        if found.interrupted:
            console.message("interrupted: this is the best schedule so far")
            sys.stdout.flush()
            raise typer.Exit(EXIT_INTERRUPTED)


def _seconds(option: str, text: str) -> float:
    found = seconds_of(text)
    if found is None:
        raise InputError(f"{option}: must be a time such as 30s, 10min or 1h; found {describe(text)}")
    return found
