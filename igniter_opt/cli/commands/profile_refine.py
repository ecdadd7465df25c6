"""The command ``profile refine``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_NO
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.kinds import COLOCATIONS, PROFILE
from igniter_opt.cli import console
from igniter_opt.cli.commands.profile_serve import device_of
from igniter_opt.cli.options import Json, ProfileArgument
from igniter_opt.cli.outputs import check_apart, check_outputs
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.measurement_files import measurements_json
from igniter_opt.data.plan import read_plan
from igniter_opt.data.profile import read_profile, write_profile
from igniter_opt.deploy.inventory import read_devices
from igniter_opt.profiler.make import colocation_precision
from igniter_opt.profiler.refine import DEFAULT_ROUNDS, DEFAULT_TIME_LIMIT, DEFAULT_TOLERANCE, Errors, Refined, refine
from igniter_opt.profiler.runners.cuda import CudaRunner
from igniter_opt.profiler.session import StoppedError


def refine_command(
    profile: ProfileArgument,
    plans: Annotated[list[Path], typer.Argument(metavar="PLAN...", help="Plans with GPUs of the profile's card.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROFILE", help="Write the profile (JSON).")],
    rounds: Annotated[int, typer.Option(metavar="N", help="How often to measure, with plans made anew in between.")] = (
        DEFAULT_ROUNDS
    ),
    tolerance: Annotated[
        float, typer.Option(metavar="T", help="End when unmeasured placements were predicted so well on average.")
    ] = DEFAULT_TOLERANCE,
    time_limit: Annotated[float, typer.Option(metavar="S", help="Seconds for solving a plan anew.")] = (
        DEFAULT_TIME_LIMIT
    ),
    measurements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was measured as well (JSON).")
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="UUID", help="The card. Default: the only one.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="LOG", help="Keep every reading here as it is made, and go on from what it holds."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure where plans are: their placements, alone and together, join the profile; then plan and measure again.

    Exit code 1 if the profile gives the last plans' placements, now measured, worse than the tolerance on average.

    Example: igniter-opt profile refine mine.json plan.json -o refined.json --resume refined.jsonl
    """
    card = read_profile(profile)
    read: list[str | Path] = [profile, *plans]
    check_outputs(output, PROFILE, None, read, "an input", log=resume)
    check_outputs(measurements, COLOCATIONS, None, read, "an input")
    check_apart([(output, "--output"), (measurements, "--measurements"), (resume, "--resume")], [])
    loaded = [read_plan(path) for path in plans]
    device = device_of(read_devices(otherwise="run this on the machine that has the card"), gpu)
    runner = CudaRunner(device.uuid, colocation_precision(card))
    report = console.StepPrinter()
    try:
        found = refine(
            runner,
            card,
            loaded,
            rounds=rounds,
            tolerance=tolerance,
            time_limit=time_limit,
            log=resume,
            report=report,
        )
    except StoppedError:
        console.message("interrupted" + (f"; {resume} holds what was measured, go on with --resume" if resume else ""))
        raise typer.Exit(EXIT_INTERRUPTED) from None
    write_profile(found.profile, output)
    if measurements is not None:
        write_bytes_atomically(measurements, measurements_json(found.measurements).encode())
    if json:
        console.print_json(_data(found, tolerance))
    else:
        _print(found)
    console.message(f"{output}: {_verdict(found, tolerance)}")
    if not found.agrees(tolerance):
        raise typer.Exit(EXIT_NO)


def _verdict(found: Refined, tolerance: float) -> str:
    """Say how well the profile gives the placements of the last plans, as it is now and as it was before."""
    last = found.rounds[-1]
    errors = f"{100 * last.after.mean:.1f} % on average, {100 * last.before.mean:.1f} % before they were measured"
    if not found.agrees(tolerance):
        return f"errs more than {100 * tolerance:g} % at the plans' placements: {errors}"
    more = (
        "" if found.foretold(tolerance) else "; others, which plans made anew may hold, err as those did: refine again"
    )
    return f"agrees with the plans' placements: they err by {errors}{more}"


def _data(found: Refined, tolerance: float) -> dict[str, object]:
    rounds = [
        {
            "groups": entry.groups,
            "readings": entry.readings,
            "before": entry.before._asdict(),
            "after": entry.after._asdict(),
        }
        for entry in found.rounds
    ]
    return {"rounds": rounds, "agrees": found.agrees(tolerance), "foretold": found.foretold(tolerance)}


def _print(found: Refined) -> None:
    table = new_table()
    table.add_column("round")
    for title in (
        "GPUs",
        "placements",
        "predicted: mean error",
        "worst",
        "bias",
        "fitted: mean error",
        "worst",
        "bias",
    ):
        table.add_column(title, justify="right")
    for number, entry in enumerate(found.rounds, 1):
        cells = [*_cells(entry.before), *_cells(entry.after)]
        table.add_row(str(number), str(entry.groups), str(entry.readings), *cells)
    print_table(console.stdout(), table)


def _cells(errors: Errors) -> list[str]:
    return [f"{100 * errors.mean:.1f} %", f"{100 * errors.worst:.1f} %", f"{100 * errors.bias:+.1f} %"]
