"""The command ``compare``."""

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from igniter_opt.base import command
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.kinds import COMPARISON
from igniter_opt.cli import completion, console
from igniter_opt.cli.inputs import instance_of
from igniter_opt.cli.options import (
    Coefficients,
    Confidence,
    Gap,
    Headroom,
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
from igniter_opt.cli.tables.comparison import print_comparison
from igniter_opt.cli.traffic import (
    Burstiness,
    BurstRatio,
    BurstSeconds,
    PlannedKind,
    PlannedTrace,
    PlannedWay,
    planned_arrivals,
    split_of,
)
from igniter_opt.compare import DEFAULT_SIMULATED_REQUESTS, compare
from igniter_opt.methods import METHODS
from igniter_opt.options import DEFAULT_TIME_LIMIT_S
from igniter_opt.result import Progress


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("compare")(compare_command)


def compare_command(
    instances: Annotated[
        list[str],
        typer.Argument(
            metavar="INSTANCE...",
            help="Files, shipped names, or - for standard input.",
            autocompletion=completion.instances,
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help=f"Methods, of: {', '.join(METHODS)}. Default: all heuristics and the exact.",
            autocompletion=completion.method_lists,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="CSV", help="Write the rows.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the costs (png, svg, pdf).")] = None,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT_S,
    gap: Gap = 0.0,
    margin: PlanMargin = None,
    confidence: Confidence = None,
    coefficients: Coefficients = None,
    slo_rule: Rule = None,
    max_replicas: Replicas = None,
    percentile: Percentile = None,
    scale: PlanScale = None,
    arrivals: PlannedKind = None,
    burstiness: Burstiness = None,
    burst_ratio: BurstRatio = None,
    burst_seconds: BurstSeconds = None,
    trace: PlannedTrace = None,
    headroom: Headroom = None,
    split: PlannedWay = None,
    seed: SolverSeed = 0,
    requests: Annotated[
        int, typer.Option(metavar="N", help="Requests per workload to simulate a plan with; 0: none.")
    ] = DEFAULT_SIMULATED_REQUESTS,
    json: Json = False,
) -> None:
    """Compare heuristics with the optimum: GPUs, cost, bound, gap, time, and what random arrivals do to the plans.

    Example: igniter-opt compare igniter-table3 --plot cost.png -o results.csv
    """
    problems = [instance_of(name) for name in instances]
    way = split_of(split)
    asked = planned_arrivals(arrivals, burstiness, burst_ratio, burst_seconds, trace)
    check_outputs(output, COMPARISON, plot, instances)
    printer = console.ProgressPrinter()

    def report(instance: str, method: str, progress: Progress) -> None:
        printer(progress, prefix=f"{instance} {method} ")

    comparison = compare(
        problems,
        None if methods is None else [name.strip() for name in methods.split(",")],
        time_limit=time_limit,
        gap=gap,
        margin=margin,
        confidence=confidence,
        coefficients=coefficients,
        slo_rule=rule_named(slo_rule),
        max_replicas=max_replicas,
        percentile=percentile,
        scale=scale,
        arrivals=asked,
        headroom=headroom,
        split=way,
        seed=seed,
        requests=requests,
        on_progress=report,
    )
    if comparison.interrupted:
        command.ignores_interrupts()
    if comparison.interrupted and not comparison.rows:
        console.message("interrupted before there was a row")
        raise typer.Exit(EXIT_INTERRUPTED)
    if output is not None:
        write_bytes_atomically(output, comparison.to_csv().encode())
    if json:
        console.print_json(comparison.to_dicts())
    else:
        print_comparison(comparison)
    if plot is not None and not comparison.results:
        console.message(f"{plot} was not drawn: no method found a plan")
    elif plot is not None:
        from igniter_opt.report.comparison_plots import plot_comparison

        plot_comparison(comparison, plot)
    if comparison.interrupted:
        console.message("interrupted: these are the rows so far")
        raise typer.Exit(EXIT_INTERRUPTED)
