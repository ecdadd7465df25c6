"""The commands that judge a plan on real servers: ``measure`` and ``rehearse``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_BAD_INPUT, EXIT_NO, InputError
from igniter_opt.base.files import parse_json, read_text
from igniter_opt.base.kinds import MEASUREMENT, REHEARSAL
from igniter_opt.base.schema import nearest
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli import console
from igniter_opt.cli.options import (
    BasePort,
    Json,
    PlanArgument,
    ReadyTimeout,
    Seed,
    StateFolder,
    TritonServer,
    check_numbers,
)
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.measure import LivePrinter, print_measurement, print_rehearsal
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
from igniter_opt.data.plan import Plan, plan_from_data, read_plan
from igniter_opt.data.verdict import FEWEST_BEYOND, Verdict
from igniter_opt.deploy.apply import DEFAULT_BASE_PORT, DEFAULT_READY_TIMEOUT_S
from igniter_opt.deploy.apply import Options as ApplyOptions
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.backends.base import ServerOptions
from igniter_opt.deploy.backends.registry import DEFAULT
from igniter_opt.deploy.endpoints import ENDPOINTS_FILE, ENDPOINTS_SCHEMA, Endpoints, endpoints, endpoints_from_data
from igniter_opt.deploy.health import deployed_samples
from igniter_opt.deploy.state import Store, default_root, deployments
from igniter_opt.measure.options import DEFAULT_DURATION_S, DEFAULT_TIMEOUT_S, DEFAULT_WARM_UP_S, MeasureOptions
from igniter_opt.measure.requests import files_of, read_inputs
from igniter_opt.measure.results import INTERRUPTED, Measurement, write_measurement
from igniter_opt.measure.run import measure
from igniter_opt.rehearse.results import write_rehearsal
from igniter_opt.rehearse.run import RehearsalSite, rehearse

_MOST_SWITCHES = 10

Duration = Annotated[float, typer.Option(metavar="S", help="Seconds that count.")]
WarmUp = Annotated[float, typer.Option(metavar="S", help="Seconds of load before them.")]
Allowance = Annotated[
    float,
    typer.Option(
        metavar="MS", help="Added to the plan's SLOs, where the plan left that for the way to the servers and back."
    ),
]
Timeout = Annotated[float, typer.Option(metavar="S", help="Seconds after which a request is given up.")]
Processes = Annotated[int | None, typer.Option(metavar="N", help="Load generators. Default: as the rates need.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("measure")(measure_command)
    app.command("rehearse")(rehearse_command)


def measure_command(
    target: Annotated[
        Path, typer.Argument(metavar="ENDPOINTS|PLAN", help="An endpoints file, or the plan that is deployed.")
    ],
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="PLAN", help="With ENDPOINTS: the plan whose SLOs are to hold.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="With PLAN: the deployment. Default: the instance's name.")] = None,
    duration: Duration = DEFAULT_DURATION_S,
    warm_up: WarmUp = DEFAULT_WARM_UP_S,
    arrivals: Kind = None,
    burstiness: Burstiness = None,
    burst_ratio: BurstRatio = None,
    burst_seconds: BurstSeconds = None,
    trace: Trace = None,
    scale: Annotated[float, typer.Option(metavar="X", help="Multiply all rates by X.")] = 1.0,
    split: Way = None,
    seed: Seed = 0,
    only: Annotated[list[str] | None, typer.Option(metavar="WORKLOAD", help="Measure only this; repeatable.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="[MODEL=]JSON",
            help="Requests in perf_analyzer's JSON format. Default: the model's check.json, or random values.",
        ),
    ] = None,
    shared_memory: Annotated[
        bool,
        typer.Option(
            "--shared-memory", help="Servers on this machine: inputs in shared memory, not sent with every request."
        ),
    ] = False,
    percentile: Judged = None,
    allowance: Allowance = 0.0,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    processes: Processes = None,
    state: StateFolder = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the measurement (.json or .csv).")
    ] = None,
    feed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append latencies to this file as they come (JSON lines, for `guard`)."),
    ] = None,
    json: Json = False,
) -> None:
    """Load deployed servers at the plan's rates (open loop) and measure. Exit code 1 if an SLO does not hold.

    2 if this machine cannot send fast enough to judge. The finished part of an interrupted measurement is kept. Where
    the deployment's endpoints name another server meanwhile (`guard`), new requests go there.

    Example: igniter-opt measure plan.json --duration 30 -o measured.json
    """
    traces = [trace_of(text) for text in trace or ()]
    read = [target, *([plan] if plan else []), *(path for _, path in traces), *map(Path, files_of(inputs or ()))]
    check_outputs(output, MEASUREMENT, None, read, "an input", feed=feed)
    where, judge, samples, follow = _target(target, plan, name, state)
    options = MeasureOptions(
        arrivals=arrivals_of(arrivals, burstiness, burst_ratio, burst_seconds, traces),
        duration_s=duration,
        warm_up_s=warm_up,
        traces=traces,
        scale=scale,
        split=split_of(split),
        seed=seed,
        percentile=percentile,
        allowance_ms=allowance,
        timeout_s=timeout,
        inputs=samples | read_inputs(inputs or (), [workload.model for workload in where.workloads.values()]),
        processes=processes,
        shared_memory=shared_memory,
        only=tuple(only or ()),
    )
    with LivePrinter() as printer:
        measurement = measure(
            where, options, plan=judge, source=str(target), on_progress=printer, follow=follow, feed=feed
        )
    if output is not None:
        write_measurement(measurement, output)
    if json:
        console.print_json(measurement.to_dict())
    else:
        print_measurement(measurement)
    hint = "; give --processes, a smaller --scale, or run it on another machine"
    _end(measurement, measurement.verdict, hint)


def rehearse_command(
    plan: PlanArgument,
    duration: Duration = DEFAULT_DURATION_S,
    warm_up: WarmUp = DEFAULT_WARM_UP_S,
    arrivals: Kind = None,
    burstiness: Burstiness = None,
    burst_ratio: BurstRatio = None,
    burst_seconds: BurstSeconds = None,
    trace: Trace = None,
    scale: Annotated[
        float,
        typer.Option(metavar="X", help="Slow time: rates times X, service times divided by X (0.1 on small machines)."),
    ] = 1.0,
    split: Way = None,
    seed: Seed = 0,
    percentile: Judged = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    processes: Processes = None,
    tritonserver: TritonServer = None,
    base_port: BasePort = DEFAULT_BASE_PORT,
    ready_timeout: ReadyTimeout = DEFAULT_READY_TIMEOUT_S,
    state: StateFolder = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="JSON", help="Write the rehearsal.")] = None,
    json: Json = False,
) -> None:
    """Try a plan on real Triton servers without a GPU: models that take the predicted times, under the plan's load.

    Servers are started, loaded, measured beside the simulation of the same requests, and stopped. Exit code 1 if an
    SLO does not hold, 2 if this machine is too small to tell (try --scale 0.1).

    Example: igniter-opt rehearse plan.json --duration 10
    """
    loaded = read_plan(plan)
    traces = [trace_of(text) for text in trace or ()]
    check_outputs(output, REHEARSAL, None, [plan, *(path for _, path in traces)], "an input")
    check_numbers(base_port, ready_timeout)
    options = MeasureOptions(
        arrivals=arrivals_of(arrivals, burstiness, burst_ratio, burst_seconds, traces),
        duration_s=duration,
        warm_up_s=warm_up,
        traces=traces,
        split=split_of(split),
        seed=seed,
        percentile=percentile,
        timeout_s=timeout,
        processes=processes,
        pace=scale,
    )
    stop = StopRequest()
    apply = ApplyOptions(base_port=base_port, ready_timeout_s=ready_timeout, report=console.message, stop=stop)
    site = RehearsalSite(
        DEFAULT.backend(options=ServerOptions(tritonserver=tritonserver)), state or default_root(), apply
    )
    with LivePrinter() as printer:
        rehearsal = rehearse(loaded, site, options, source=plan, on_progress=printer, stop=stop)
    if output is not None:
        write_rehearsal(rehearsal, output)
    if json:
        console.print_json(rehearsal.to_dict())
    else:
        print_rehearsal(rehearsal)
    _end(rehearsal.measurement, rehearsal.verdict, "; give a smaller --scale")


def _target(
    target: Path, plan: Path | None, name: str | None, state: Path | None
) -> tuple[Endpoints, Plan | None, dict[str, Any], Path]:
    """Return where to send, the plan to judge by, the deployed models' samples, and the endpoints file to follow."""
    data = parse_json(read_text(target), str(target))
    if isinstance(data, dict) and data.get("schema") == ENDPOINTS_SCHEMA:
        if name is not None:
            raise InputError("--name goes with a plan, not with an endpoints file")
        where, judge = endpoints_from_data(data, str(target)), None if plan is None else read_plan(plan)
        if judge is not None and where.plan_digest not in (None, plan_digest(judge)):
            console.message(f"note: {plan} is not the plan that was deployed; its SLOs are judged all the same")
        return where, judge, {}, target
    if plan is not None:
        raise InputError("--plan goes with an endpoints file; a plan is judged by itself")
    judge = plan_from_data(data, str(target))
    root = state or default_root()
    store = Store(root, judge.instance.name if name is None else name)
    loaded = store.load()
    if loaded is None:
        names = deployments(root)
        raise InputError(
            f"no deployment {store.name!r} in {root}{nearest(store.name, names)}; deploy the plan first, give --name,"
            " or give an endpoints file"
        )
    if loaded.plan_digest != plan_digest(judge):
        raise InputError(f"deployment {store.name!r} runs another plan ({loaded.plan_path}); deploy this one first")
    return endpoints(loaded), judge, deployed_samples(store, loaded), store.folder / ENDPOINTS_FILE


def _end(measurement: Measurement, verdict: Verdict | None, hint: str) -> None:
    """Say what limits the result, and end with the promised exit code."""
    reasons = () if verdict is None else verdict.reasons
    for text in list(measurement.settings.get("errors", {}))[:5]:
        console.message(f"note: failed requests: {text}")
    if measurement.growing:
        console.message(
            f"note: the queue of {', '.join(measurement.growing[:5])} grew all the time: its servers cannot keep up"
        )
    if measurement.disturbed:
        console.message(
            f"note: the host took {measurement.stolen_s:.1f} s of processor time from this machine meanwhile, which may"
            " have delayed requests: compare with a quieter time or machine before you blame the plan"
        )
    if measurement.too_few:
        console.message(
            f"note: {len(measurement.too_few)} workload(s) had fewer than {FEWEST_BEYOND} requests beyond the"
            " percentile, which says little about it; give a longer --duration"
        )
    for switch in measurement.switches[:_MOST_SWITCHES]:
        console.message(
            f"note: {switch.workload} replica {switch.replica} went to the server at {switch.after} from"
            f" {switch.at_s:.1f} s on"
        )
    for text in reasons:
        console.message(f"no verdict: {text}{hint}")
    if measurement.partial == INTERRUPTED:
        console.message("interrupted: this is what was measured so far")
        raise typer.Exit(EXIT_INTERRUPTED)
    if measurement.partial is not None:
        console.message(f"partial: {measurement.partial}; the numbers are of the time until then")
        raise typer.Exit(EXIT_BAD_INPUT)
    if reasons:
        raise typer.Exit(EXIT_BAD_INPUT)
    if measurement.failed or (verdict is not None and verdict.outcome == "violates"):
        raise typer.Exit(EXIT_NO)
