"""The command ``serve``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.cli import console
from igniter_opt.serve.address import DEFAULT_HOST, DEFAULT_PORT, PORT_VARIABLE
from igniter_opt.serve.settings import ServiceLimits


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("serve")(serve_command)


_USUAL = ServiceLimits(workers=1)


def serve_command(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine it takes a token.")
    ] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(metavar="P", envvar=PORT_VARIABLE, help="0: any free one.")] = DEFAULT_PORT,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The token that clients must show; a file that only you can read."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where jobs are kept. Default: in the user's state folder.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Jobs that run at once. Default: one per processor, 4 at most.")
    ] = None,
    queue: Annotated[int, typer.Option(metavar="N", help="Jobs that may wait.")] = _USUAL.queue,
    keep: Annotated[int, typer.Option(metavar="N", help="Ended jobs that are kept.")] = _USUAL.keep,
    body_mib: Annotated[float, typer.Option(metavar="M", help="Largest request.")] = _USUAL.body_mib,
    max_workloads: Annotated[
        int, typer.Option(metavar="N", help="Most workloads of an instance, counting replicas.")
    ] = _USUAL.workloads,
    max_time_limit: Annotated[
        float, typer.Option(metavar="S", help="Largest time limit that may be asked for.")
    ] = _USUAL.time_limit_s,
    job_seconds: Annotated[float, typer.Option(metavar="S", help="Longest job, whatever it is.")] = _USUAL.job_s,
    memory_mib: Annotated[int, typer.Option(metavar="M", help="Memory of a job.")] = _USUAL.memory_mib,
    stop_seconds: Annotated[
        float, typer.Option(metavar="S", help="What a job that is asked to end may still take.")
    ] = _USUAL.stop_s,
) -> None:
    """Serve solve, compare, verify, predict, simulate and replan over HTTP, as jobs. Ctrl-C or SIGTERM ends it.

    The address is printed once it can be asked; /openapi.json there describes all requests.

    Example: igniter-opt serve --port 8470
    """
    from igniter_opt.serve.run import serve

    limits = ServiceLimits(
        workers=workers if workers is not None else 0,
        queue=queue,
        keep=keep,
        body_mib=body_mib,
        workloads=max_workloads,
        time_limit_s=max_time_limit,
        job_s=job_seconds,
        memory_mib=memory_mib,
        stop_s=stop_seconds,
    )
    serve(host, port, token_file, state, limits, _say)
    console.message("ended; what was finished is kept")


def _say(address: str) -> None:
    print(f"serving on {address}", flush=True)
