"""What ``solve --front`` does."""

from pathlib import Path

import typer

from igniter_opt.base import command
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli import console
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.data.instance import Instance
from igniter_opt.options import SolveOptions


def find_front(
    problem: Instance,
    options: SolveOptions,
    most: float | None,
    others: list[str],
    folder: Path | None,
    plot: Path | None,
    json: bool,
) -> None:
    """Find the front and show it.

    Parameters
    ----------
    most
        The largest budget over the least cost; None for the usual one.
    others
        Options that were given and that a front does not have.
    folder
        Where plans go, if anywhere.
    """
    if others:
        raise InputError(f"{', '.join(others)}: not with --front, whose plans are those of patterns; leave that out")
    check_outputs(None, None, plot, [])
    from igniter_opt.cli.tables.front import print_front
    from igniter_opt.front import DEFAULT_MOST, check_folder, front
    from igniter_opt.result import problem_line

    if folder is not None:
        check_folder(folder)
    stop = StopRequest()
    asked = options.applied(problem)
    with stop.then_deaf():
        found = front(
            problem,
            most=DEFAULT_MOST if most is None else most,
            options=options,
            on_progress=console.ProgressPrinter(problem_line(asked, "patterns, front of cost and total share")),
            stop=stop,
        )
        if found.interrupted:
            command.ignores_interrupts()
        if folder is not None:
            found.write_plans(folder)
        if plot is not None:
            from igniter_opt.report.front_plot import plot_front

            plot_front(found, plot)
        if json:
            print(found.to_json(), end="")
        else:
            print_front(found)
        if found.interrupted:
            console.message("interrupted: these are the points so far")
            raise typer.Exit(EXIT_INTERRUPTED)
