"""The command ``profile calibrate``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.kinds import PROFILE
from igniter_opt.cli import console
from igniter_opt.cli.options import Json, ProfileArgument
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.cli.tables.profile import note_unnamed_card
from igniter_opt.data.measurement_files import Measurements, read_measurements, with_measurements
from igniter_opt.data.profile import (
    COEFFICIENT_SETS,
    Calibration,
    Profile,
    read_profile,
    with_coefficients,
    write_profile,
)
from igniter_opt.fitting.calibration import calibrate
from igniter_opt.fitting.fresh import calibrate_fresh

# A margin of more than this (latencies more than twice those predicted) says that readings and profile do not belong
# together.
_JUDGED_AT, _LARGEST_MARGIN = 0.99, 1.0


def calibrate_command(
    profile: ProfileArgument,
    measurements: Annotated[
        str,
        typer.Argument(
            metavar="MEASUREMENTS",
            help="Latencies side by side: JSON; CSV (group, model, batch, share_percent, latency_ms); a shipped name.",
        ),
    ],
    coefficients: Annotated[
        str | None, typer.Option(metavar="SET", help=f"One of: {', '.join(COEFFICIENT_SETS)}. Default: all.")
    ] = None,
    fit: Annotated[
        bool,
        typer.Option("--fit", help="Fit refined coefficients to these measurements, too: the profile will hold them."),
    ] = False,
    planned: Annotated[
        str | None,
        typer.Option(
            metavar="MEASUREMENTS",
            help="Latencies of solved plans' GPUs (`colocate --plan`), which margins shall suffice for, too.",
        ),
    ] = None,
    fit_planned: Annotated[
        bool, typer.Option("--fit-planned", help="Fit refined coefficients to those of --planned, too.")
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="All these were measured after the profile was fitted: judge it as it is."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PROFILE", help="Write the profile with its margins.")
    ] = None,
    json: Json = False,
) -> None:
    """Find by how much predictions must be inflated to hold with a confidence, for solve --confidence.

    Readings that the coefficients are fitted to are predicted by fits without their like.

    Example: igniter-opt profile calibrate v100 v100-colocated --fit -o calibrated.json
    """
    card = read_profile(profile)
    found = read_measurements(measurements)
    solved = None if planned is None else read_measurements(planned)
    inputs = [measurements] if planned is None else [measurements, planned]
    check_outputs(output, PROFILE, None, inputs, "the measurements")
    found.check_card(card)
    if solved is not None:
        solved.check_card(card)
    if fit_planned and solved is None:
        raise InputError("--fit-planned: there is nothing to fit to; name the latencies by --planned")
    added = [*([found] if fit else []), *([solved] if fit_planned and solved is not None else [])]
    if not fresh:
        card = _with_all(card, added)
    readings = found.side_by_side()
    beside = None if solved is None else (Path(str(planned)).name, solved.side_by_side())
    today = datetime.now(UTC).date().isoformat()
    chosen = COEFFICIENT_SETS if coefficients is None else (coefficients,)
    report = console.StepPrinter()
    for name in chosen:
        own = with_coefficients(card, name)
        if fresh:
            calibrated = calibrate_fresh(own, (Path(measurements).name, readings), beside, today)
        else:
            calibrated = calibrate(own, readings, Path(measurements).name, today, report, planned=beside)
        card = card.model_copy(update={"calibration": {**(card.calibration or {}), **(calibrated.calibration or {})}})
    if fresh:
        # Margins are those of the fit without these, which has no more to go by.
        card = _with_all(card, added).model_copy(update={"calibration": card.calibration})
    margins = {name: entry for name, entry in (card.calibration or {}).items() if name in chosen}
    note_unnamed_card(measurements, found, card)
    for name, entry in margins.items():
        _warn_of_misfit(name, entry)
    if output is not None:
        write_profile(card, output)
    if json:
        console.print_json({name: entry.model_dump(mode="json") for name, entry in margins.items()})
        return
    table = new_table()
    for title in (
        "coefficients", "groups", "readings", "held out", "mean error", "confidence", "margin", "at measured placements"
    ):  # fmt: skip
        table.add_column(title, justify="left" if title in ("coefficients", "held out") else "right")
    for name, entry in margins.items():
        measured = entry.margin_measured or (None,) * len(entry.margin)
        for confidence, margin, known in zip(entry.confidence, entry.margin, measured, strict=True):
            table.add_row(
                name,
                "-" if entry.groups is None else f"{entry.groups:,}",
                f"{entry.readings:,}",
                entry.held_out,
                "-" if entry.mean_error is None else _percent(entry.mean_error),
                f"{confidence:g}",
                _percent(margin),
                "the same" if known is None else _percent(known),
            )
    print_table(console.stdout(), table)
    for name, entry in margins.items():
        if entry.spread is not None:
            by_model = ", ".join(f"{model} {value:.2f}" for model, value in entry.spread.items())
            console.message(f"{name}: of these margins models have {by_model} times as much")
    if output is None:
        console.message("nothing was stored; give -o FILE to keep the margins in a profile")


def _with_all(card: Profile, added: list[Measurements]) -> Profile:
    """Put measurements into a profile."""
    for entry in added:
        card = with_measurements(card, entry)
    return card


def _warn_of_misfit(name: str, entry: Calibration) -> None:
    """Say that a margin (at 0.99, or the highest confidence below that there is) is beyond what any fit would need."""
    confidence, margin = max(pair for pair in zip(entry.confidence, entry.margin, strict=True) if pair[0] <= _JUDGED_AT)
    if margin > _LARGEST_MARGIN:
        console.message(
            f"warning: the {name} coefficients need a margin of {100 * margin:.0f} % at confidence {confidence:g}: the"
            " readings do not fit the profile; are they of its card, framework and precision?"
        )


def _percent(margin: float) -> str:
    return f"{100 * margin:.2f} %"
