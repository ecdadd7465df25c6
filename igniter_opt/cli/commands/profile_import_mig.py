"""The command ``profile import-mig``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.kinds import PROFILE
from igniter_opt.base.text import counted
from igniter_opt.cli import console
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.data.slice_profile import UNTOUCHED, write_slice_profile
from igniter_opt.physics.mig_cards import MIG_CARDS
from igniter_opt.profiler.import_mig import import_mig
from igniter_opt.profiler.slice_check import slice_findings


def import_mig_command(
    readings: Annotated[
        Path, typer.Argument(metavar="READINGS", help="CSV (model, slice, batch, processes, ...) or JSON.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROFILE", help="Write the profile (JSON).")],
    card: Annotated[
        str | None,
        typer.Option(
            "--card", metavar="CARD", help=f"The card measured: {', '.join(MIG_CARDS)}. Default: what the JSON says."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The profile's name. Default: the output file's.")] = None,
    source: Annotated[str | None, typer.Option(help="Who measured, and where that is published.")] = None,
    latency_resolution: Annotated[
        float | None,
        typer.Option(metavar="MS", help="To how many ms latencies were read. Default: 1 where all are whole, else 0."),
    ] = None,
) -> None:
    """Make a profile of a card under MIG out of readings of models in slices.

    CSV has the columns model, slice, batch, processes, throughput_rps_per_process, latency_ms (and memory_mib).

    Example: igniter-opt profile import-mig readings.csv --card a100-80gb -o a100-mig.json
    """
    if latency_resolution is not None and not 0 <= latency_resolution < float("inf"):
        raise InputError(f"--latency-resolution must be a number of at least 0; found {latency_resolution!r}")
    check_outputs(output, PROFILE, None, [readings], "the readings")
    profile = import_mig(
        readings,
        card=card,
        name=name or output.stem,
        source=source,
        latency_resolution_ms=latency_resolution,
    )
    write_slice_profile(profile, output)
    found = slice_findings(profile)
    faults = sum(finding.level == "fault" for finding in found)
    judged = f"{counted(faults, 'fault')}, {counted(len(found) - faults, 'warning')}"
    console.message(
        f"{output}: {counted(len(profile.models), 'model')} in slices of card {profile.card}; {judged}"
        + (" (`profile check` lists them)" if found else "")
        + f". {UNTOUCHED[0].upper()}{UNTOUCHED[1:]}."
    )
