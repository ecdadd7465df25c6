"""The commands ``profile list`` and ``profile show``."""

from typing import Any

from igniter_opt.base.text import counted, rounded
from igniter_opt.cli import console
from igniter_opt.cli.options import Coefficients, Json, ProfileArgument
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.profile import Profile, read_profile, shipped_profiles, shipped_slice_profiles
from igniter_opt.data.profile_files import read_card_profile, read_slice_profile
from igniter_opt.data.slice_profile import UNTOUCHED, SliceProfile
from igniter_opt.profiler.check import check_profile
from igniter_opt.report.tables import number


def list_command(json: Json = False) -> None:
    """List the shipped profiles: card, models, coefficients, and how far predictions are off on average.

    Example: igniter-opt profile list
    """
    rows = [_row(read_profile(name)) for name in shipped_profiles()]
    cut = [read_slice_profile(name) for name in shipped_slice_profiles()]
    if json:
        console.print_json([*rows, *map(_slice_row, cut)])
        return
    table = new_table()
    for title in ("name", "card"):
        table.add_column(title)
    for title in ("SMs", "MiB", "models"):
        table.add_column(title, justify="right")
    table.add_column("coefficients")
    table.add_column("mean error %", justify="right")
    table.add_column("date")
    for row in rows:
        table.add_row(
            row["name"],
            row["gpu"],
            str(row["sm_count"]),
            "-" if row["memory_mib"] is None else rounded(row["memory_mib"]),
            str(len(row["models"])),
            row["coefficients"],
            _percent(row["calibrated_mean_error"]),
            row["date"] or "-",
        )
    print_table(console.stdout(), table)
    console.stdout().print(
        "mean error: of predictions for latencies side by side that the coefficients were not fitted to; - where the"
        " profile is not calibrated. `igniter-opt profile show NAME` says more.",
        soft_wrap=True,
    )
    for entry in cut:
        made_up = " (synthetic)" if entry.synthetic else ""
        out = f"under MIG: {entry.name}{made_up}, {entry.card}, {counted(len(entry.models), 'model')}; {UNTOUCHED}"
        console.stdout().print(out, soft_wrap=True)


def show_command(profile: ProfileArgument, coefficients: Coefficients = None, json: Json = False) -> None:
    """Show a profile: card, models and their range, coefficients with their errors, where it comes from.

    Example: igniter-opt profile show v100
    """
    card = read_card_profile(profile, coefficients=coefficients)
    if isinstance(card, SliceProfile):
        if json:
            console.print_json(_slice_row(card))
        else:
            _print_slices(card)
        return
    found = {**_row(card), "errors": {}}
    found["errors"] = {
        check.model: {"mean": check.mean_error, "worst": check.worst_error} for check in check_profile(card).models
    }
    if json:
        console.print_json(found)
    else:
        _print_profile(card, found)


def _row(card: Profile) -> dict[str, Any]:
    """Return what a profile says about itself as plain data."""
    calibration = (card.calibration or {}).get(card.coefficients)
    return {
        "name": card.name,
        "gpu": card.hardware.gpu,
        "sm_count": card.hardware.sm_count,
        "memory_mib": card.hardware.memory_mib,
        "share_unit_percent": card.hardware.share_unit_percent,
        "least_share_percent": card.hardware.least_share_percent,
        "coefficients": card.coefficients,
        "models": {
            name: {
                "max_batch": model.max_batch,
                "source": model.source,
                "memory": None if model.memory is None else model.memory.model_dump(),
            }
            for name, model in card.models.items()
        },
        "calibrated_mean_error": None if calibration is None else calibration.mean_error,
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "serving": None if card.serving is None else card.serving.model_dump(mode="json", exclude_none=True),
        "source": card.source,
        "date": card.provenance.date,
        "provenance": card.provenance.model_dump(mode="json", exclude_none=True),
    }


def _slice_row(card: SliceProfile) -> dict[str, Any]:
    """Return what a profile of slices says about itself as plain data."""
    return {
        "name": card.name,
        "sharing": card.sharing,
        "card": card.card,
        "synthetic": card.synthetic,
        "latency_resolution_ms": card.latency_resolution_ms,
        "models": {
            name: {kind: len(readings.batch) for kind, readings in model.slices.items()}
            for name, model in card.models.items()
        },
        "source": card.source,
        "date": card.provenance.date,
        "provenance": card.provenance.model_dump(mode="json", exclude_none=True),
    }


def _print_slices(card: SliceProfile) -> None:
    out = console.stdout()
    kinds = [kind.name for kind in card.mig_card.slices]
    resolution = f", latencies read to {card.latency_resolution_ms:g} ms" if card.latency_resolution_ms else ""
    for line in (
        f"{card.name}: {card.card} under MIG, slices {', '.join(kinds)}{resolution}",
        f"source: {card.source}",
        *([] if card.caution() is None else [str(card.caution())]),
        f"{UNTOUCHED[0].upper()}{UNTOUCHED[1:]}.",
    ):
        out.print(line, soft_wrap=True, markup=False)
    table = new_table()
    table.add_column("readings of")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for name, model in card.models.items():
        table.add_row(name, *(str(len(model.slices[k].batch)) if k in model.slices else "-" for k in kinds))
    print_table(out, table)


def _print_profile(card: Profile, found: dict[str, Any]) -> None:
    out, hardware = console.stdout(), card.hardware
    memory = "memory unknown" if hardware.memory_mib is None else f"{rounded(hardware.memory_mib)} MiB"
    least = ""
    if hardware.least_share_percent is not None:
        least = f", none below {rounded(hardware.least_share_percent)} %"
    calibration = (card.calibration or {}).get(card.coefficients)
    margins = "not calibrated: no margins for a confidence"
    if calibration is not None:
        pairs = zip(calibration.confidence, calibration.margin, strict=True)
        margins = (
            f"{calibration.held_out} on {calibration.readings:,} readings side by side: mean error"
            f" {_percent(calibration.mean_error)} %; margins "
            + ", ".join(f"{rounded(100 * margin, 1)} % at {level:g}" for level, margin in pairs)
        )
    provenance = "; ".join(f"{key} {value}" for key, value in found["provenance"].items())
    for line in (
        f"{card.name}: {hardware.gpu}, {counted(hardware.sm_count, 'SM')}, {memory};"
        f" shares in steps of {rounded(hardware.share_unit_percent)} %{least}",
        f"coefficients {card.coefficients}, {margins}",
        _serving_line(card),
        f"source: {card.source}",
        *([provenance] if provenance else []),
    ):
        out.print(line, soft_wrap=True, markup=False)
    table = new_table()
    table.add_column("model")
    for title in ("batches", "MiB", "MiB a batch item", "mean error %", "worst"):
        table.add_column(title, justify="right")
    table.add_column("from")
    for name, model in card.models.items():
        errors = found["errors"].get(name, {})
        table.add_row(
            name,
            f"1-{model.max_batch}",
            "-" if model.memory is None else rounded(model.memory.fixed_mib),
            "-" if model.memory is None else rounded(model.memory.per_item_mib),
            _percent(errors.get("mean")),
            _percent(errors.get("worst")),
            model.source or "-",
        )
    print_table(out, table)
    out.print("errors: of the coefficients on the solo grid, to which they are fitted", soft_wrap=True)


def _serving_line(card: Profile) -> str:
    """Say what serving adds, if it is known."""
    serving = card.serving
    if serving is None:
        return f"what servers add is not known: `igniter-opt profile serve {card.name} -o FILE` measures it"
    added = serving.models.values()
    spans = [
        f"{min(values):.2f} to {max(values):.2f} ms {where}"
        for where, values in (
            ("a batch", [entry.batch_ms for entry in added]),
            ("a request", [entry.request_ms for entry in added]),
            ("on the way", [entry.way_ms for entry in added]),
        )
    ]
    lacking = card.not_served(card.models)
    but = f"; not known of {', '.join(lacking)}" if lacking else ""
    return f"served by {serving.backend} ({serving.date}): {', '.join(spans)} are added{but}"


def _percent(error: float | None) -> str:
    return number(None if error is None else 100 * error, 1)
