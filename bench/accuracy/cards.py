"""Predicted against measured latencies side by side on the H100 and the H200 (the V100's: `bench.accuracy`).

Run: python -m bench.accuracy.cards

Rows say what the coefficients were fitted to. Cross-validated by group: readings are predicted by a fit without their
group; by placement: without everything measured of their placement, alone and side by side.
By pair: readings of two models are predicted by a fit without any group in which these two meet.
"""

from itertools import combinations

import numpy as np

import igniter_opt as ig
from bench.provenance import RESULTS, commit, machine, today
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.measurements import ColocatedMeasurements
from igniter_opt.data.profile import Profile, with_coefficients
from igniter_opt.fitting.calibration import Predicted, margin_at, predict_readings, predict_unseen
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.refined import by_probes
from igniter_opt.fitting.solo_surfaces import fit_surfaces

BARE = {"solo_measurements": None, "colocated_measurements": None, "calibration": None}
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def row(what: str, found: Predicted, readings: ColocatedMeasurements) -> str:
    """One line of the table."""
    judged = ~np.isnan(found.error)
    error = (found.predicted_ms / found.measured_ms - 1.0)[judged]
    size = 100 * np.abs(error)
    margin = margin_at(found.error[judged], np.array(readings.group)[judged], 0.99)
    cells = [size.mean(), np.quantile(size, 0.9), np.quantile(size, 0.99), size.max(), 100 * error.mean()]
    return f"| {what} | " + " | ".join(f"{cell:.2f}" for cell in cells) + f" | {100 * (margin or 0.0):.1f} |"


def by_pair(profile: Profile) -> Predicted:
    """Predict groups of two by fits that have seen no group with both of their models; NaN for others."""
    together = profile.colocated_measurements
    assert together is not None  # noqa: S101
    meeting = {
        number: set(combinations(sorted(together.model[k] for k in rows), 2))
        for number, rows in together.members().items()
    }
    columns = np.full((3, len(together.model)), np.nan)
    for pair in sorted(set().union(*meeting.values())):
        kept = together.take(number for number, pairs in meeting.items() if pair not in pairs)
        found = predict_readings(
            fit_coefficients(profile.model_copy(update={"colocated_measurements": kept})), together
        )
        here = np.isin(together.group, [number for number, pairs in meeting.items() if pairs == {pair}])
        columns[:, here] = np.array(found)[:, here]
    return Predicted(*columns)


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
        f"`python -m bench.accuracy.cards`; {machine()}; commit {commit()}. Relative errors in percent.",
    ]
    for card in ("h100", "h200"):
        readings = read_measurements(f"{card}-colocated").side_by_side()
        lines += [
            "",
            f"## {card}: {len(readings.model)} latencies of {len(readings.members())} groups of two to eight",
            "",
        ]
        lines += [
            "| coefficients, fitted to | mean | P90 | P99 | worst | bias | margin at 0.99 |",
            "| --- |" + " --- |" * 6,
        ]
        for name in ("igniter", "refined"):
            profile = ig.read_profile(card, coefficients=name)
            bare = predict_readings(fit_coefficients(profile.model_copy(update=BARE)), readings)
            lines.append(row(f"`{name}`, the profile's own blocks", bare, readings))
        whole = ig.read_profile(card, coefficients="refined")
        crossed = predict_unseen(whole, readings)
        lines.append(row("`refined`, all, cross-validated by group", crossed["group"], readings))
        lines.append(row("`refined`, all, cross-validated by placement", crossed["placement"], readings))
        lines.append(row("`refined`, all, cross-validated by pair", by_pair(whole), readings))
        seen = predict_readings(fit_coefficients(whole), readings)
        lines.append(row("`refined`, all, these included", seen, readings))
        lines += shapes(whole, readings)
    (RESULTS / f"accuracy-cards-{today()}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
