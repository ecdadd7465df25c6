"""The ``simulate`` command."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import EXIT_NO
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.kinds import SIMULATION
from igniter_opt.base.schema import one_of
from igniter_opt.cli import console
from igniter_opt.cli.inputs import plan_of
from igniter_opt.cli.options import Json, Margin, PlanInput, Seed
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.simulation import print_simulation
from igniter_opt.cli.traffic import (
    Burstiness,
    BurstRatio,
    BurstSeconds,
    Judged,
    Kind,
    Trace,
    Way,
    arrivals_of,
    split_of,
    trace_of,
)
from igniter_opt.data.neighbours import NEIGHBOURS, Neighbours
from igniter_opt.simulate import DEFAULT_REQUESTS, DEFAULT_SEEDS, simulate


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("simulate")(simulate_command)


def simulate_command(
    plan: PlanInput,
    arrivals: Kind = None,
    burstiness: Burstiness = None,
    burst_ratio: BurstRatio = None,
    burst_seconds: BurstSeconds = None,
    trace: Trace = None,
    requests: Annotated[
        int | None, typer.Option(metavar="N", help=f"Per workload and run (default {DEFAULT_REQUESTS:,}).")
    ] = None,
    warm_up: Annotated[
        int | None, typer.Option(metavar="N", help="Requests not counted before them (default N/10; traces: 0).")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="K", help="Runs.")] = DEFAULT_SEEDS,
    seed: Seed = 0,
    split: Way = None,
    neighbours: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="full: batches all the time, as the rules assume; actual: as they come. Default: the plan's, or full.",
        ),
    ] = None,
    noise: Annotated[float, typer.Option(metavar="CV", help="Coefficient of variation of GPU latencies.")] = 0.0,
    margin: Margin = 0.0,
    scale: Annotated[float, typer.Option(metavar="X", help="Multiply all arrival rates by X.")] = 1.0,
    percentile: Judged = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="CSV", help="Write the statistics.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw latencies against SLOs (png, svg, pdf).")
    ] = None,
    json: Json = False,
) -> None:
    """Simulate a plan's queues request by request. Exit code 1 if some workload's percentile is over its SLO.

    Example: igniter-opt simulate plan.json --arrivals constant --plot latencies.png
    """
    loaded = plan_of(plan)
    traces = [trace_of(text) for text in trace or ()]
    check_outputs(output, SIMULATION, plot, [plan, *(path for _, path in traces)], "an input")
    simulation = simulate(
        loaded,
        arrivals_of(arrivals, burstiness, burst_ratio, burst_seconds, traces),
        requests=requests,
        seeds=seeds,
        seed=seed,
        warm_up=warm_up,
        traces=traces,
        scale=scale,
        split=split_of(split),
        neighbours=neighbours_of(neighbours),
        noise=noise,
        margin=margin,
        percentile=percentile,
        on_progress=console.CountPrinter("runs of a workload"),
    )
    if output is not None:
        write_bytes_atomically(output, simulation.to_csv().encode())
    if plot is not None:
        from igniter_opt.report.latencies import plot_latencies

        plot_latencies(simulation, plot)
    if json:
        console.print_json(simulation.to_dict())
    else:
        print_simulation(simulation)
    if simulation.too_short:
        console.message(
            f"note: {len(simulation.too_short)} workload(s) had fewer than 10 requests beyond the percentile, which"
            f" says little about it; give {'a longer trace' if traces else 'more --requests or --seeds'}"
        )
    if not simulation.ok:
        raise typer.Exit(EXIT_NO)


def neighbours_of(value: str | None) -> Neighbours | None:
    """Return the kind of neighbours that an option names; None where no option says."""
    return None if value is None else one_of(value, NEIGHBOURS, "--neighbours: unknown kind", "kinds")
