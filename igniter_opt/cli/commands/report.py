"""The command ``report``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_NO, InputError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.kinds import REPORT
from igniter_opt.cli import console
from igniter_opt.cli.options import PlanArgument
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.plans import print_report
from igniter_opt.sensitivity import DEFAULT_TIME_S

DEFAULT_OUTPUT = Path("report.html")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("report")(report_command)


def report_command(
    plan: PlanArgument,
    measurements: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="What `measure` wrote or `simulate --json` printed; repeatable."),
    ] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `solve --history` wrote beside the plan.")
    ] = None,
    what_if_time: Annotated[
        float, typer.Option(metavar="S", help="Seconds for what relaxed SLOs and rates would save; 0: leave it out.")
    ] = DEFAULT_TIME_S,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="HTML", help=f"The page. Default: {DEFAULT_OUTPUT}.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print what the page says as JSON; a page with -o only.")
    ] = False,
) -> None:
    """Write one self-contained page: cost, savings, proof, every GPU, latencies, and what would change the cost.

    Exit code 1 if the plan does not hold (the page says why).

    Example: igniter-opt report plan.json --what-if-time 5 -o report.html
    """
    from igniter_opt.report.findings import gather
    from igniter_opt.report.page import render_page

    if not 0 <= what_if_time < float("inf"):
        raise InputError(f"--what-if-time: must be a finite number of seconds, at least 0; found {what_if_time!r}")
    inputs = [plan, *(measurements or ()), *([] if history is None else [history])]
    path = DEFAULT_OUTPUT if output is None and not json else output
    check_outputs(path, REPORT, None, inputs, "an input")
    findings = gather(
        plan,
        measurements=measurements or (),
        history=history,
        what_if_time_s=what_if_time,
        command=_command(plan, measurements or [], history, what_if_time, output),
        on_progress=console.CountPrinter("workloads: what relaxing them would save"),
    )
    if path is not None:
        write_bytes_atomically(path, render_page(findings).encode())
    if json:
        console.print_json(findings.to_dict())
    elif path is not None:
        print_report(findings, path)
    if findings.sensitivity is not None and findings.sensitivity.interrupted:
        console.message("interrupted: the page has what was found so far")
        raise typer.Exit(EXIT_INTERRUPTED)
    if not findings.verification.ok:
        raise typer.Exit(EXIT_NO)


def _command(
    plan: Path, measurements: list[Path], history: Path | None, what_if_time: float, output: Path | None
) -> str:
    """Return the command that makes this page."""
    words = ["igniter-opt", "report", str(plan)]
    for path in measurements:
        words += ["--measurements", str(path)]
    words += [] if history is None else ["--history", str(history)]
    words += [] if what_if_time == DEFAULT_TIME_S else ["--what-if-time", f"{what_if_time:g}"]
    words += [] if output is None else ["-o", str(output)]
    return shlex.join(words)
