"""Predicted against measured latencies side by side on the H100 and the H200 (the V100's: `bench.accuracy`).

Run: python -m bench.accuracy_cards

Rows say what the coefficients were fitted to. Cross-validated: readings are predicted by a fit without the groups that
hold their batch size; *strictly*: without the placements alone at that batch, too. By pair: readings of two models are
predicted by a fit without any group in which these two meet.
"""

from itertools import combinations

import numpy as np

import igniter_opt as ig
from bench.provenance import RESULTS, commit, machine, today
from igniter_opt.calibration import margin_at, predict_readings, predict_unseen
from igniter_opt.coefficients import FloatArray, fit_coefficients
from igniter_opt.measurement_files import read_colocated
from igniter_opt.measurements import ColocatedMeasurements, SoloMeasurements
from igniter_opt.profile import Profile, with_coefficients
from igniter_opt.refined import by_probes
from igniter_opt.solo import fit_surfaces

BARE = {"solo_measurements": None, "colocated_measurements": None, "calibration": None}
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def row(what: str, error: FloatArray) -> str:
    """One line of the table, from predicted over measured less 1."""
    size = 100 * np.abs(error)
    margin = margin_at(1.0 / (1.0 + error) - 1.0, 0.99)
    cells = [size.mean(), np.quantile(size, 0.9), np.quantile(size, 0.99), size.max(), 100 * error.mean()]
    return f"| {what} | " + " | ".join(f"{cell:.2f}" for cell in cells) + f" | {100 * (margin or 0.0):.1f} |"


def strictly(profile: Profile) -> FloatArray:
    """Errors of fits without anything measured at the reading's batch but the grid."""
    solo, together = profile.solo_measurements, profile.colocated_measurements
    assert solo is not None and together is not None  # noqa: S101
    errors = np.full(len(together.model), np.nan)
    for batch in sorted(set(together.batch)):
        kept = [k for k, entry in enumerate(solo.batch) if entry != batch]
        columns = ("model", "batch", "share_percent", "latency_ms")
        alone = SoloMeasurements(**{name: tuple(getattr(solo, name)[k] for k in kept) for name in columns})
        groups = [n for n, rows in together.members().items() if batch not in {together.batch[k] for k in rows}]
        without = profile.model_copy(
            update={"solo_measurements": alone, "colocated_measurements": together.take(groups)}
        )
        found = predict_readings(fit_coefficients(without), together)
        here = np.array(together.batch) == batch
        errors[here] = (found.predicted_ms / found.measured_ms - 1.0)[here]
    return errors


def by_pair(profile: Profile) -> FloatArray:
    """Errors on groups of two by fits that have seen no group with both of their models."""
    together = profile.colocated_measurements
    assert together is not None  # noqa: S101
    meeting = {
        number: set(combinations(sorted(together.model[k] for k in rows), 2))
        for number, rows in together.members().items()
    }
    errors = np.full(len(together.model), np.nan)
    for pair in sorted(set().union(*meeting.values())):
        kept = together.take(number for number, pairs in meeting.items() if pair not in pairs)
        found = predict_readings(
            fit_coefficients(profile.model_copy(update={"colocated_measurements": kept})), together
        )
        here = np.isin(together.group, [number for number, pairs in meeting.items() if pairs == {pair}])
        errors[here] = (found.predicted_ms / found.measured_ms - 1.0)[here]
    return errors[~np.isnan(errors)]


def shapes(profile: Profile, readings: ColocatedMeasurements) -> list[str]:
    """Mean error from the profile alone, by the part of what is suffered that does not shrink with the share."""
    bare = profile.model_copy(update=BARE)
    faithful = fit_coefficients(with_coefficients(bare, "igniter"))
    surfaces = fit_surfaces(bare, faithful)
    found = [predict_readings(by_probes(bare, faithful, surfaces, part), readings) for part in PARTS]
    cells = " | ".join(f"{100 * np.abs(e.predicted_ms / e.measured_ms - 1.0).mean():.2f}" for e in found)
    return [
        "",
        "`refined`, the profile's own blocks: mean error by `WHOLE_PART`",
        "",
        "| " + " | ".join(f"{part:g}" for part in PARTS) + " |",
        "|" + " --- |" * len(PARTS),
        f"| {cells} |",
    ]


def main() -> None:
    """Write the table."""
    lines = [
        f"# Accuracy on the H100 and the H200, {today()}",
        "",
        f"`python -m bench.accuracy_cards`; {machine()}; commit {commit()}. Relative errors in percent.",
    ]
    for card in ("h100", "h200"):
        readings = read_colocated(f"{card}-colocated")
        lines += [
            "",
            f"## {card}: {len(readings.model)} latencies of {len(readings.members())} groups of two to four",
            "",
        ]
        lines += [
            "| coefficients, fitted to | mean | P90 | P99 | worst | bias | margin at 0.99 |",
            "| --- |" + " --- |" * 6,
        ]
        for name in ("igniter", "refined"):
            profile = ig.read_profile(card, coefficients=name)
            bare = predict_readings(fit_coefficients(profile.model_copy(update=BARE)), readings)
            lines.append(row(f"`{name}`, the profile's own blocks", bare.predicted_ms / bare.measured_ms - 1.0))
        whole = ig.read_profile(card, coefficients="refined")
        crossed, _ = predict_unseen(whole, readings)
        lines.append(row("`refined`, all, cross-validated", crossed.predicted_ms / crossed.measured_ms - 1.0))
        if whole.solo_measurements is not None:
            lines.append(row("`refined`, all, strictly cross-validated", strictly(whole)))
        lines.append(row("`refined`, all, cross-validated by pair", by_pair(whole)))
        seen = predict_readings(fit_coefficients(whole), readings)
        lines.append(row("`refined`, all, these included", seen.predicted_ms / seen.measured_ms - 1.0))
        lines += shapes(whole, readings)
    (RESULTS / f"accuracy-cards-{today()}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
