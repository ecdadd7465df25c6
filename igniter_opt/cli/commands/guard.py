"""The command that keeps SLOs where predictions were wrong: ``guard``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_BAD_INPUT, EXIT_NO, InputError
from igniter_opt.base.schema import nearest
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli.options import (
    BasePort,
    Cpus,
    Image,
    Json,
    Memlock,
    MemoryMib,
    ReadyTimeout,
    ShmMib,
    StateFolder,
    TritonServer,
    check_numbers,
    flag,
)
from igniter_opt.cli.tables.guard import Printer
from igniter_opt.data.plan import read_plan
from igniter_opt.deploy.apply import DEFAULT_BASE_PORT, DEFAULT_READY_TIMEOUT_S, Options
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.backends.base import ServerOptions
from igniter_opt.deploy.backends.registry import BACKENDS, takers
from igniter_opt.deploy.state import Store, default_root, deployments
from igniter_opt.guard.change import DEFAULT_DRAIN_S, Site
from igniter_opt.guard.choose import DEFAULT_STEP_PERCENT
from igniter_opt.guard.decide import DEFAULT_COOL_DOWN_S, DEFAULT_INTERVAL_S, Settings
from igniter_opt.guard.feed import FeedReader
from igniter_opt.guard.run import guard
from igniter_opt.guard.window import WindowSettings


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("guard")(guard_command)


def guard_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan that is deployed.")],
    name: Annotated[str | None, typer.Option(help="The deployment. Default: the instance's name.")] = None,
    feed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Latencies, as `measure --feed` writes them. Default: servers' statistics."),
    ] = None,
    allowance: Annotated[
        float,
        typer.Option(
            metavar="MS",
            help="With --feed: added to the plan's SLOs, for the way to the servers and back in latencies.",
        ),
    ] = 0.0,
    interval: Annotated[float, typer.Option(metavar="S", help="Seconds between looks.")] = DEFAULT_INTERVAL_S,
    window: Annotated[
        float, typer.Option(metavar="S", help="Seconds of latencies that are judged; more where requests are few.")
    ] = WindowSettings.window_s,
    looks: Annotated[
        int, typer.Option(metavar="N", help="A violation counts after so many looks in a row.")
    ] = WindowSettings.looks,
    cool_down: Annotated[
        float, typer.Option(metavar="S", help="Least seconds between two changes of a workload.")
    ] = DEFAULT_COOL_DOWN_S,
    step: Annotated[
        float, typer.Option(metavar="P", help="Points of share that a placement gets more, at least.")
    ] = DEFAULT_STEP_PERCENT,
    drain: Annotated[float, typer.Option(metavar="S", help="Seconds a replaced server goes on at most.")] = (
        DEFAULT_DRAIN_S
    ),
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="S", help="End after so many seconds. Default: with Ctrl-C.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide and log, change nothing.")] = False,
    tritonserver: TritonServer = None,
    image: Image = None,
    cpus: Cpus = None,
    memory_mib: MemoryMib = None,
    shm_mib: ShmMib = ServerOptions.shm_mib,
    memlock: Memlock = False,
    base_port: BasePort = DEFAULT_BASE_PORT,
    ready_timeout: ReadyTimeout = DEFAULT_READY_TIMEOUT_S,
    state: StateFolder = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing; the log is written all the same.")] = False,
    json: Json = False,
) -> None:
    """Watch a deployment's latencies; where an SLO breaks, start the placement anew with more share and switch to it.

    Every decision is a line of guard.jsonl in the deployment's folder. Servers are started with the options that they
    were deployed with. Exit code 1 if a workload is over its SLO, or a server does not answer, when --for is over; 2 if
    no request was seen at all, so that there is no verdict; 130 after Ctrl-C.

    Example: igniter-opt guard plan.json --for 3
    """
    loaded = read_plan(plan)
    check_numbers(base_port, ready_timeout, drain, cpus, memory_mib, shm_mib)
    root = state or default_root()
    store = Store(root, loaded.instance.name if name is None else name)
    deployed = store.load()
    if deployed is None:
        hint = nearest(store.name, deployments(root))
        raise InputError(f"no deployment {store.name!r} in {root}{hint}; deploy the plan first, or give --name")
    digest = plan_digest(loaded)
    if deployed.plan_digest != digest:
        raise InputError(f"deployment {store.name!r} runs another plan ({deployed.plan_path}); give that one")
    if allowance and feed is None:
        raise InputError("--allowance goes with --feed: servers' statistics leave the way to the servers out")
    settings = Settings(
        interval_s=interval,
        window=WindowSettings(window, min(WindowSettings.calm_s, cool_down), looks=looks),
        cool_down_s=cool_down,
        step_percent=step,
        allowance_ms=allowance,
        duration_s=seconds,
        dry_run=dry_run,
    )
    kind = BACKENDS[deployed.backend]
    started = ServerOptions(
        tritonserver=tritonserver, image=image, cpus=cpus, memory_mib=memory_mib, shm_mib=shm_mib, memlock=memlock
    )
    for need in kind.missing(started):
        raise InputError(f"{flag(need)}: give the {need} that the servers were deployed with")
    for given in kind.foreign(started):
        where = " or ".join(BACKENDS[name].servers for name in takers(given))
        raise InputError(f"{flag(given)} goes with servers in {where}; these are {kind.servers}")
    runner = kind.backend(deployed.hosts, started)
    stop = StopRequest()
    options = Options(base_port=base_port, ready_timeout_s=ready_timeout, stop=stop)
    site = Site(store, runner, loaded, digest, options, drain_s=drain)
    with Printer(json=json, quiet=quiet) as printer:
        reader = None if feed is None else FeedReader(feed)
        end = guard(site, settings, feed=reader, report=printer.event, on_progress=printer.status, stop=stop)
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    if end.over or end.unanswered:
        raise typer.Exit(EXIT_NO)
    if not end.judged:
        raise typer.Exit(EXIT_BAD_INPUT)
