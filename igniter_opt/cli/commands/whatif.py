"""The command ``whatif``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base import command
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.kinds import SWEEP
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli import completion, console
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
    PlanScale,
    Replicas,
    Rule,
    SolverSeed,
    TimeLimit,
    rule_named,
)
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.options import DEFAULT_TIME_LIMIT_S, SolveOptions

_ENGINES = ("local", "dask")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("whatif")(whatif_command)


def whatif_command(
    instance: InstanceArgument,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=FROM:TO:STEPS",
            help="What to vary, or KEY=VALUE,VALUE,...; give it twice for a grid. Keys: slo and rate (times those of"
            " all), slo:WORKLOAD (ms), rate:WORKLOAD (req/s), price:TYPE, count:TYPE, new:PROFILE (the price of a GPU"
            " type more), margin, confidence, percentile.",
        ),
    ],
    refine: Annotated[
        float | None,
        typer.Option(metavar="W", help="Halve intervals in which the cost changes until they are no longer than W."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="CSV", help="Write the points.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the costs (png, svg, pdf).")] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes. Default: as many as there are processors.")
    ] = None,
    engine: Annotated[
        str,
        typer.Option(help=f"One of: {', '.join(_ENGINES)}.", autocompletion=completion.words(_ENGINES)),
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(metavar="URL", help="A Dask cluster's scheduler, such as tcp://host:8786.")
    ] = None,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT_S,
    gap: Gap = 0.0,
    margin: PlanMargin = None,
    confidence: Confidence = None,
    coefficients: Coefficients = None,
    slo_rule: Rule = None,
    max_replicas: Replicas = None,
    percentile: Percentile = None,
    scale: PlanScale = None,
    headroom: Headroom = None,
    seed: SolverSeed = 0,
    json: Json = False,
) -> None:
    """Say what other SLOs, rates, prices, counts, GPU types or margins would cost, with a proof of every step.

    The time limit is of each point. Points whose plan and bound follow from others are not solved.

    Example: igniter-opt whatif igniter-table3 --vary slo:W12=40:70:16 -o sweep.csv --plot sweep.png
    """
    wanted = instance_of(instance)
    check_outputs(output, SWEEP, plot, [instance])
    from igniter_opt.cli.tables.whatif import print_sweep
    from igniter_opt.whatif import whatif

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
        headroom=headroom,
        seed=seed,
    )
    stop = StopRequest()
    with stop.then_deaf():
        sweep = whatif(
            wanted,
            vary,
            options,
            refine=refine,
            workers=workers,
            engine=engine,
            scheduler=scheduler,
            on_progress=console.CountPrinter("points"),
            stop=stop,
        )
        if sweep.interrupted:
            command.ignores_interrupts()
        if sweep.interrupted and not sweep.points:
            console.message("interrupted before there was a point")
            raise typer.Exit(EXIT_INTERRUPTED)
        if output is not None:
            sweep.write(output)
        if json:
            console.print_json(sweep.to_dict())
        else:
            print_sweep(sweep)
        if plot is not None and all(point.plan is None for point in sweep.points):
            console.message(f"{plot} was not drawn: there is no plan at any point")
        elif plot is not None:
            from igniter_opt.report.sweep_plots import plot_sweep

            plot_sweep(sweep, plot)
        if sweep.interrupted:
            console.message("interrupted: these are the points so far")
            raise typer.Exit(EXIT_INTERRUPTED)
