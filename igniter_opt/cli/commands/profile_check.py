"""The command ``profile check``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from igniter_opt.base.errors import EXIT_NO, InputError
from igniter_opt.cli import console
from igniter_opt.cli.options import Json, ProfileArgument
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.cli.tables.profile import note_unnamed_card
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.profile import COEFFICIENT_SETS
from igniter_opt.data.profile_files import read_card_profile
from igniter_opt.data.slice_profile import UNTOUCHED, SliceProfile
from igniter_opt.profiler.check import ProfileCheck, check_profile
from igniter_opt.profiler.slice_check import slice_findings


def check_command(
    profile: ProfileArgument,
    measurements: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Judge predictions by these co-locations: a shipped name, or a file."),
    ] = None,
    coefficients: Annotated[
        str | None,
        typer.Option(metavar="SET", help=f"Judge these coefficients: {' or '.join(COEFFICIENT_SETS)}."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw measured and fitted latencies (png, svg, pdf).")
    ] = None,
    json: Json = False,
) -> None:
    """Judge a profile: do readings repeat, are they monotone, do coefficients fit. Exit code 1 if it has a fault.

    Example: igniter-opt profile check v100 --plot v100.png
    """
    card = read_card_profile(profile, coefficients=coefficients)
    if isinstance(card, SliceProfile):
        _check_slices(card, json=json, alone=measurements is None and plot is None and coefficients is None)
        return
    found = None if measurements is None else read_measurements(measurements)
    inputs = [profile, *([] if measurements is None else [measurements])]
    check_outputs(None, None, plot, inputs, "an input")
    checked = check_profile(card, found)
    if found is not None:
        note_unnamed_card(str(measurements), found, card)
    if plot is not None:
        from igniter_opt.report.profiles import plot_profile

        plot_profile(card, checked, plot)
    if json:
        console.print_json(checked.to_dict())
    else:
        _print(checked)
    if not checked.ok:
        raise typer.Exit(EXIT_NO)


def _check_slices(card: SliceProfile, *, json: bool, alone: bool) -> None:
    """Judge readings of slices."""
    if not alone:
        raise InputError(f"profile {card.name} holds readings of slices: it has no coefficients, co-locations or plot")
    found = slice_findings(card)
    faults = sum(finding.level == "fault" for finding in found)
    if json:
        console.print_json({"profile": card.name, "ok": not faults, "findings": [asdict(entry) for entry in found]})
    else:
        out = console.stdout()
        for finding in found:
            out.print(f"{finding.level}: {finding.where}: {finding.message}", soft_wrap=True)
        out.print(f"{card.name}: " + (f"{faults} fault(s); measure again" if faults else "no fault"))
        out.print(f"{UNTOUCHED[0].upper()}{UNTOUCHED[1:]}.", soft_wrap=True)
    if faults:
        raise typer.Exit(EXIT_NO)


def _print(checked: ProfileCheck) -> None:
    out = console.stdout()
    table = _table(
        "model", "points", "repeats within", "mean error", "worst error", "slow-down by a twin", "exact methods"
    )
    for entry in checked.models:
        table.add_row(
            entry.model,
            str(entry.points),
            "-" if entry.repeatability is None else _percent(entry.repeatability, 2),
            _percent(entry.mean_error, 1),
            _percent(entry.worst_error, 1),
            _percent(entry.slowdown, 1),
            "yes" if entry.planned else "no",
        )
    print_table(out, table)
    if checked.groups:
        columns = ("placements side by side", "readings", "mean error", "90 % within", "worst error", "bias")
        table = _table(*columns)
        for group in checked.groups:
            row = group.to_dict()
            table.add_row(
                str(group.size),
                str(row["readings"]),
                *(_percent(row[key], 1) for key in ("mean_error", "p90_error", "worst_error", "bias")),
            )
        out.print("\npredicted against measured inference latency:")
        print_table(out, table)
    for finding in checked.findings:
        out.print(f"{finding.level}: {finding.where}: {finding.message}", soft_wrap=True)
    faults = sum(finding.level == "fault" for finding in checked.findings)
    out.print(f"{checked.profile}: " + (f"{faults} fault(s); measure again" if faults else "no fault"))


def _table(first: str, *titles: str) -> Table:
    table = new_table()
    table.add_column(first)
    for title in titles:
        table.add_column(title, justify="right")
    return table


def _percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %"
