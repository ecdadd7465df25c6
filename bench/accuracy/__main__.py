"""How well both coefficient sets predict measured V100 latencies, and how wide their margins must be.

All figures are computed from the measurements in `instances/`. *Fitted to* says which readings a fit has seen:

- by batch: every reading is predicted by a fit without the groups that hold its batch size;
- by batch, alone too: that fit also lacks the solo measurements of that batch, and the solo grid has it at batch 16 and
  32 only;
- by pair: every reading is predicted by a fit without the groups of its two models.

Run: python -m bench.accuracy
"""

from collections.abc import Callable

import numpy as np

from bench.provenance import header, write
from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.measurements import ColocatedMeasurements, SoloMeasurements
from igniter_opt.data.profile import Profile, read_profile, with_coefficients
from igniter_opt.fitting.calibration import MOST_FOLDS, margin_of, predict_readings, predict_unseen
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.refined import refine
from igniter_opt.physics.interference import predict_many
from igniter_opt.physics.parameters import Coefficients

CONFIDENCES = (0.9, 0.95, 0.99)
ROUNDS = 20
Fit = Callable[[Profile], Coefficients]
HEAD = "| coefficients | fitted to | mean | P90 | P99 | worst | bias |\n| --- | --- | --- | --- | --- | --- | --- |"


def one_kind(profile: Profile) -> Coefficients:
    """Fit the refined coefficients with one kind of contention only."""
    return refine(profile, fit_coefficients(with_coefficients(profile, "igniter")), kinds=1)


def beside(profile: Profile) -> ColocatedMeasurements:
    """Return the latencies side by side in a profile."""
    if profile.colocated_measurements is None:
        raise InputError(f"profile {profile.name} holds no colocated_measurements")
    return profile.colocated_measurements


def solo_of(profile: Profile) -> SoloMeasurements:
    """Return the latencies alone in a profile."""
    if profile.solo_measurements is None:
        raise InputError(f"profile {profile.name} holds no solo_measurements")
    return profile.solo_measurements


def relative(coefficients: Coefficients, readings: ColocatedMeasurements) -> FloatArray:
    """Return predicted over measured latency, less 1."""
    found = predict_readings(coefficients, readings)
    return found.predicted_ms / found.measured_ms - 1.0


def alone(coefficients: Coefficients, readings: SoloMeasurements) -> FloatArray:
    """Return predicted over measured latency of models alone, less 1."""
    columns = (
        np.array([[coefficients.index(name)] for name in readings.model]),
        np.array(readings.batch, dtype=float)[:, None],
        np.array(readings.share_percent)[:, None],
    )
    return predict_many(coefficients, *columns).latency_ms[:, 0] / np.array(readings.latency_ms) - 1.0


def without_batches(readings: SoloMeasurements, sizes: set[int]) -> SoloMeasurements:
    """Drop the solo readings of some batch sizes."""
    kept = [k for k, size in enumerate(readings.batch) if size not in sizes]
    columns = ("model", "batch", "share_percent", "latency_ms")
    return SoloMeasurements(**{name: tuple(getattr(readings, name)[k] for k in kept) for name in columns})


def crossed(
    profile: Profile, folds: list[list[int]], of_fold: list[FloatArray], fit: Fit, sizes: list[set[int]] | None = None
) -> FloatArray:
    """Predict the readings `of_fold` (masks) by fits without the groups of each fold."""
    readings, solo = beside(profile), solo_of(profile)
    error = np.full(len(readings.model), np.nan)
    for k, (groups, mask) in enumerate(zip(folds, of_fold, strict=True)):
        kept = readings.take(set(readings.group) - set(groups))
        changed = {"colocated_measurements": kept}
        if sizes is not None:
            changed["solo_measurements"] = without_batches(solo, sizes[k])
        here = mask.astype(bool)
        error[here] = relative(fit(profile.model_copy(update=changed)), readings)[here]
    return error


def by_batch(readings: ColocatedMeasurements) -> tuple[list[list[int]], list[FloatArray], list[set[int]]]:
    """Folds by batch size: groups left out, readings judged, batch sizes."""
    batches = sorted(set(readings.batch))
    sizes = [set(batches[k::MOST_FOLDS]) for k in range(min(MOST_FOLDS, len(batches)))]
    members = readings.members().items()
    groups = [[g for g, at in members if fold & {readings.batch[k] for k in at}] for fold in sizes]
    return groups, [np.isin(readings.batch, list(fold)) for fold in sizes], sizes


def by_pair(readings: ColocatedMeasurements) -> tuple[list[list[int]], list[FloatArray], list[str]]:
    """Folds by the models of a group: groups left out, readings judged, names."""
    found: dict[str, list[int]] = {}
    for number, at in readings.members().items():
        found.setdefault(" and ".join(sorted({readings.model[k] for k in at})), []).append(number)
    return list(found.values()), [np.isin(readings.group, groups) for groups in found.values()], list(found)


def line(name: str, seen: str, error: FloatArray) -> str:
    """Render one row of the error tables."""
    size = np.abs(error)
    figures = (size.mean(), np.quantile(size, 0.9), np.quantile(size, 0.99), size.max())
    cells = " | ".join(f"{100 * value:.2f} %" for value in figures)
    return f"| {name} | {seen} | {cells} | {100 * error.mean():+.2f} % |"


def beside_rows(faithful: Profile, refined: Profile) -> list[str]:
    """Errors on latencies side by side."""
    readings = beside(refined)
    groups, masks, sizes = by_batch(readings)
    pairs, pair_masks, _ = by_pair(readings)
    solo_only = refined.model_copy(update={"colocated_measurements": None})
    grid_only = solo_only.model_copy(update={"solo_measurements": None})
    return [
        HEAD,
        line("`igniter`", "11 points a model", relative(fit_coefficients(faithful), readings)),
        line("`refined`", "11 points a model", relative(fit_coefficients(grid_only), readings)),
        line("`refined`", "and solo measurements", relative(fit_coefficients(solo_only), readings)),
        line("`refined`", "all, these included", relative(fit_coefficients(refined), readings)),
        line("`refined`", "others, by batch", crossed(refined, groups, masks, fit_coefficients)),
        line("`refined`", "others, by batch, alone too", crossed(refined, groups, masks, fit_coefficients, sizes)),
        line("`refined`", "others, by pair", crossed(refined, pairs, pair_masks, fit_coefficients)),
        line("one kind of contention", "others, by batch", crossed(refined, groups, masks, one_kind)),
        line("one kind of contention", "others, by pair", crossed(refined, pairs, pair_masks, one_kind)),
    ]


def pair_rows(refined: Profile) -> list[str]:
    """Errors of every pair of models, left out of the fit."""
    readings = beside(refined)
    pairs, masks, names = by_pair(readings)
    error = crossed(refined, pairs, masks, fit_coefficients)
    rows = [line(name, "the other pairs", error[mask.astype(bool)]) for name, mask in zip(names, masks, strict=True)]
    return [HEAD.replace("coefficients", "pair"), *rows]


def alone_rows(faithful: Profile, refined: Profile) -> list[str]:
    """Errors on latencies of models alone."""
    solo = solo_of(refined)
    error, inner = np.empty(len(solo.model)), np.array(solo.batch)
    for size in sorted(set(solo.batch)):
        here = inner == size
        fitted = fit_coefficients(refined.model_copy(update={"solo_measurements": without_batches(solo, {size})}))
        error[here] = alone(fitted, solo)[here]
    between = (inner > min(solo.batch)) & (inner < max(solo.batch))
    grid_only = refined.model_copy(update={"colocated_measurements": None, "solo_measurements": None})
    return [
        HEAD,
        line("`igniter`", "11 points a model", alone(fit_coefficients(faithful), solo)),
        line("`refined`", "11 points a model", alone(fit_coefficients(grid_only), solo)),
        line("`refined`", "all, these included", alone(fit_coefficients(refined), solo)),
        line("`refined`", "others, by batch", error),
        line("`refined`", "the same, batches 2 to 31", error[between]),
    ]


def halves(readings: ColocatedMeasurements, seed: int) -> tuple[set[int], set[int]]:
    """Two random halves of the groups."""
    numbers = np.array(sorted(set(readings.group)))
    first = set(np.random.default_rng(seed).permutation(numbers)[: len(numbers) // 2].tolist())
    return first, set(numbers.tolist()) - first


def unseen_groups(profile: Profile, seed: int) -> tuple[Profile, ColocatedMeasurements, FloatArray]:
    """A profile with half of its groups, the other half, and a mask of what is judged there: everything."""
    readings = beside(profile)
    first, second = halves(readings, seed)
    rest = readings.take(second)
    assert rest is not None  # noqa: S101
    half = profile.model_copy(update={"colocated_measurements": readings.take(first)})
    return half, rest, np.ones(len(rest.model))


def unseen_placements(profile: Profile, seed: int) -> tuple[Profile, ColocatedMeasurements, FloatArray]:
    """A profile without all readings of a fifth of the placements, and a mask of the readings of those."""
    readings, solo, unit = beside(profile), solo_of(profile), profile.hardware.share_unit_percent
    spots = sorted(set(readings.spots(unit)))
    out = {spots[k] for k in np.random.default_rng(seed).permutation(len(spots))[: len(spots) // 5]}
    kept = readings.take(number for number, own in readings.placements(unit).items() if not out & set(own))
    alone = solo.take(k for k, spot in enumerate(solo.spots(unit)) if spot not in out)
    without = profile.model_copy(update={"colocated_measurements": kept, "solo_measurements": alone})
    return without, readings, np.array([spot in out for spot in readings.spots(unit)], dtype=float)


def margin_rows(profiles: list[Profile]) -> list[str]:
    """Calibrated margins, and how they hold on readings that neither fit nor calibration has seen."""
    rows = [
        "| coefficients | confidence | margin at measured placements | unseen groups | margin | unseen placements |"
    ]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for profile in profiles:
        within: dict[tuple[str, float], list[float]] = {}
        for seed in range(ROUNDS):
            for what, split in (("groups", unseen_groups), ("placements", unseen_placements)):
                known, judged, mask = split(profile, seed)
                predictions = predict_unseen(known, beside(known))
                error = predict_readings(fit_coefficients(known), judged).error[mask.astype(bool)]
                if what == "groups" and "group" in predictions:
                    predictions = {"group": predictions["group"]}
                for level in CONFIDENCES:
                    margin = margin_of(predictions, beside(known), level)
                    assert margin is not None  # noqa: S101
                    within.setdefault((what, level), []).append(float((error <= margin).mean()))
        entry = (profile.calibration or {})[profile.coefficients]
        for level in CONFIDENCES:
            at = entry.confidence.index(level)
            cells = [f"`{profile.coefficients}`", f"{level:g}"]
            for what, margins in (("groups", entry.margin_measured or entry.margin), ("placements", entry.margin)):
                shares = within[what, level]
                cells += [
                    f"{100 * margins[at]:.2f} %",
                    f"{100 * np.mean(shares):.2f} % (least {100 * min(shares):.2f} %)",
                ]
            rows.append("| " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Write the tables."""
    faithful, refined = read_profile("v100"), read_profile("v100", coefficients="refined")
    parts = [
        header("Accuracy on measured V100 latencies"),
        "Error: predicted over measured inference latency, less 1; mean, P90, P99 and worst of its absolute value.\n",
        "## Side by side (714 latencies of 357 pairs)\n",
        *beside_rows(faithful, refined),
        "\n## Side by side, each pair of models left out\n",
        *pair_rows(refined),
        "\n## Alone (508 latencies)\n",
        *alone_rows(faithful, refined),
        "\n## Margins\n",
        "Beside each margin: of the readings that neither fit nor calibration has seen, how many err by no more than"
        f" the margin found without them, mean over {ROUNDS} random draws. *Groups*: coefficients and margin come from"
        " one half of the pairs, the other half is judged. *Placements*: they come from a profile without anything"
        " measured of a fifth of the placements (model, batch and share), alone or side by side, and the readings of"
        " these are judged.\n",
        *margin_rows([faithful, refined]),
    ]
    write("accuracy", "\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
