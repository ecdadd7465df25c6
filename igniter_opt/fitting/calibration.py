"""How far measured latencies lie above predicted ones: error margins by confidence.

A reading's *error* is what its predicted GPU latency would have to be inflated by to give the latency measured::

    error = (latency measured - loading - feedback) / GPU latency predicted - 1

Readings of one group ran together and err together, so that groups are what is counted. Let every error of a group with
n readings weigh 1/n. The margin for a confidence q is the least error such that those up to it weigh at least q (G + 1)
for G groups (0 if it is negative): for a reading of a further group of the same population the chance of a larger error
is then at most 1 - q, whatever the distribution (conformal prediction for hierarchical data: Lee, Barber and Willett
2023, arXiv:2306.06342; with one reading a group, split conformal prediction, Vovk et al. 2005). If q (G + 1) > G, the
groups are too few for q.

Readings that the coefficients were fitted to would make them look better than they are, and so would latencies *alone*
of the same placements, because most placements of a plan were never measured in any way. Such readings are
cross-validated, in two ways:

- *by group*: predicted by a fit that lacks the group, but has its placements alone. This says what margin suffices for
  placements that were measured alone;
- *by placement*: predicted by a fit that has neither a group with that placement (model, batch and share) nor its
  latency alone. The solo grid stays whole.

Plans are made with the larger of the two margins. For fits that differ from reading to reading the statement above is
no theorem, and readings of one placement err together, too: on placements left out of everything, calibration included,
a margin holds for somewhat fewer readings (bench/accuracy).

A solver picks what a fit flatters, so that GPUs of its plans are predicted worse than groups drawn at random. Readings
of such GPUs may be given besides. Where the coefficients were not fitted to them, they are predicted by the profile's
own fit, as they were when the plans were solved; else by placement, as above. What flatters the fit now is not what
flattered the one that these plans were solved with, so their margin for q is the one that suffices for a fraction q of
further GPUs with a chance of `SURE` over the draw of these (Vovk 2012, arXiv:1209.2673: the k-th least error of n
covers a fraction that is distributed as Beta(k, n + 1 - k)). At every confidence that so many GPUs support so the
margin is not below theirs. At higher ones it is that of the random groups, lengthened by as much as the worst error of
the GPUs is longer than the margin of random groups at n / (n + 1): the tails of both are taken to be of one shape,
which is no theorem.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.measurements import ColocatedMeasurements, Spot, check_models
from igniter_opt.data.profile import Calibration, PlannedReadings, Profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.enough import fits_contention
from igniter_opt.physics.interference import predict_many
from igniter_opt.physics.parameters import Coefficients

CONFIDENCES = (0.5, 0.9, 0.95, 0.99, 0.999)
MOST_FOLDS = 8
SURE = 0.75
Unseen = Literal["nothing", "group", "placement"]
# Called with what is done, the number of the part that begins (from 0), and of all parts.
Report = Callable[[str, int, int], object]
UnitT = TypeVar("UnitT", Spot, tuple[Spot, ...])


class Predicted(NamedTuple):
    """Measured and predicted inference latencies and the errors defined above; shape (readings,).

    Where no latency is predicted, because no clock would be left or a formula has its pole, the error is infinite.
    """

    measured_ms: FloatArray
    predicted_ms: FloatArray
    error: FloatArray


def predict_readings(coefficients: Coefficients, readings: ColocatedMeasurements) -> Predicted:
    """Predict every reading beside its group's others."""
    groups = list(readings.members().values())
    shape = (len(groups), max(map(len, groups)))
    model = np.full(shape, -1)
    batch, share = np.ones(shape), np.ones(shape)
    at = np.full(shape, -1)
    for row, members in enumerate(groups):
        for column, reading in enumerate(members):
            model[row, column] = coefficients.index(readings.model[reading])
            batch[row, column] = readings.batch[reading]
            share[row, column] = readings.share_percent[reading]
            at[row, column] = reading
    found = predict_many(coefficients, model, batch, share)
    there = at >= 0
    order = np.argsort(at[there])
    latency, gpu = found.latency_ms[there][order], found.gpu_latency_ms[there][order]
    measured, known = np.array(readings.latency_ms), np.isfinite(latency)
    error = np.full(len(measured), np.inf)
    error[known] = (measured[known] - (latency[known] - gpu[known])) / gpu[known] - 1.0
    return Predicted(measured, latency, error)


def predict_unseen(
    profile: Profile, readings: ColocatedMeasurements, report: Report = lambda *_: None
) -> dict[Unseen, Predicted]:
    """Predict readings by coefficients that were not fitted to them.

    Parameters
    ----------
    report
        Called before every fit: what is fitted, how many fits are done, and of how many.

    Returns
    -------
    dict
        The predictions by what was kept from the fit (see above): ``group`` if groups of these placements were fitted,
        ``placement`` if these placements were, alone or side by side; ``nothing`` if neither, and the profile's own fit
        is used.

    Raises
    ------
    InputError
        A model is unknown, or too little is left to fit to.
    """
    check_models(readings, profile.models, "measurements")
    profile = profile.bare()  # readings are of the models without a server
    side, solo, unit = profile.colocated_measurements, profile.solo_measurements, profile.hardware.share_unit_percent
    if profile.coefficients != "refined" or not fits_contention(profile):
        side = None
    if profile.coefficients != "refined":
        solo = None
    spots, groups = readings.spots(unit), readings.placements(unit)
    known = {spot for block in (side, solo) if block is not None for spot in block.spots(unit)}
    found: dict[Unseen, Predicted] = {}
    if side is not None and set(side.placements(unit).values()) & set(groups.values()):
        found["group"] = _crossed(
            profile, readings, [groups[number] for number in readings.group], _without_groups, report
        )
    if known & set(spots):
        found["placement"] = _crossed(profile, readings, spots, _without_placements, report)
    return found or {"nothing": predict_readings(fit_coefficients(profile), readings)}


def folds(units: Iterable[UnitT], count: int = MOST_FOLDS) -> list[list[UnitT]]:
    """Divide what is left out together into so many parts, at random but always in the same way."""
    distinct = sorted(set(units))
    order = np.random.default_rng(0).permutation(len(distinct))
    return [[distinct[k] for k in order[fold::count]] for fold in range(min(count, len(distinct)))]


def _crossed(
    profile: Profile,
    readings: ColocatedMeasurements,
    units: Sequence[UnitT],
    without: Callable[[Profile, set[UnitT]], Profile],
    report: Report,
) -> Predicted:
    """Predict readings by fits without the `units` that they are of; shape (readings,) of units."""
    columns = np.full((3, len(readings.model)), np.nan)
    waiting, done = folds(units), 0
    while waiting:
        out = waiting.pop()
        kept = without(profile, set(out))
        if fits_contention(profile) and not fits_contention(kept):
            if len(out) == 1:
                raise InputError(
                    f"profile {profile.name}: without {_named(out[0])} too few of its readings are left to fit to, so"
                    " nothing can be cross-validated; give measurements of other placements, or more groups"
                )
            waiting += [out[::2], out[1::2]]
            continue
        what = "placements" if isinstance(out[0], Spot) else "groups"
        report(f"fitting {profile.coefficients} coefficients without some {what}", done, done + len(waiting) + 1)
        done += 1
        here = np.array([unit in out for unit in units])
        columns[:, here] = np.array(predict_readings(fit_coefficients(kept, keep=False), readings))[:, here]
    return Predicted(*columns)


def _named(unit: Spot | tuple[Spot, ...]) -> str:
    spots = [unit] if isinstance(unit, Spot) else list(unit)
    return " beside ".join(f"{spot.model} at batch {spot.batch}" for spot in spots)


def _without_groups(profile: Profile, out: set[tuple[Spot, ...]]) -> Profile:
    side, unit = profile.colocated_measurements, profile.hardware.share_unit_percent
    if side is not None:
        side = side.take(number for number, own in side.placements(unit).items() if own not in out)
    return profile.model_copy(update={"colocated_measurements": side})


def _without_placements(profile: Profile, out: set[Spot]) -> Profile:
    side, solo, unit = profile.colocated_measurements, profile.solo_measurements, profile.hardware.share_unit_percent
    if side is not None:
        side = side.take(number for number, own in side.placements(unit).items() if not out & set(own))
    if solo is not None:
        solo = solo.take(k for k, spot in enumerate(solo.spots(unit)) if spot not in out)
    return profile.model_copy(update={"colocated_measurements": side, "solo_measurements": solo})


def margin_at(error: FloatArray, group: Sequence[int] | IntArray, confidence: float) -> float | None:
    """Return the margin for a confidence (see above); None if the groups are too few for it.

    Parameters
    ----------
    error, group
        Errors and numbers of the groups they are of; shape (readings,).
    """
    _, of, sizes = np.unique(np.asarray(group), return_inverse=True, return_counts=True)
    order = np.argsort(error, kind="stable")
    weight = np.cumsum(1.0 / sizes[of[order]])
    enough = np.flatnonzero(weight >= (len(sizes) + 1) * confidence - 1e-9)
    return max(0.0, float(error[order[enough[0]]])) if enough.size else None


def sure_margin(error: FloatArray, group: Sequence[int] | IntArray, confidence: float) -> float | None:
    """Return the margin that holds for a confidence with a chance of `SURE`; None if groups are too few for that."""
    from scipy.special import betainc

    count = len(set(np.asarray(group).tolist()))
    kept = [k for k in range(1, count + 1) if betainc(k, count + 1 - k, confidence) <= 1.0 - SURE]
    return margin_at(error, group, kept[0] / (count + 1)) if kept else None


def margin_of(
    predictions: Mapping[Unseen, Predicted], readings: ColocatedMeasurements, confidence: float
) -> float | None:
    """Return the largest margin of several ways to predict readings; None if they allow none for the confidence."""
    margins = [margin_at(found.error, readings.group, confidence) for found in predictions.values()]
    known = [margin for margin in margins if margin is not None and math.isfinite(margin)]
    return max(known) if len(known) == len(margins) else None


def calibrate(
    profile: Profile,
    readings: ColocatedMeasurements,
    name: str,
    date: str,
    report: Report = lambda *_: None,
    *,
    planned: tuple[str, ColocatedMeasurements] | None = None,
) -> Profile:
    """Return the profile with the error margins of its coefficient set, from measurements side by side.

    Parameters
    ----------
    name, date
        Name of the measurements, and today's date, which the profile keeps.
    report
        As of `predict_unseen`.
    planned
        Name and readings of GPUs of solved plans, which margins shall suffice for, too.

    Raises
    ------
    InputError
        The measurements name unknown models, or are too few for any confidence.
    """
    beside = None if planned is None else predict_planned(profile, planned[1], report)
    predictions = predict_unseen(profile, readings, report)
    count = len(readings.members())
    largest = largest_confidence(count)
    levels = [level for level in CONFIDENCES if level < largest] + [largest]
    found = [(level, margin_of(predictions, readings, level)) for level in levels if level > 0]
    usable = [(level, margin) for level, margin in found if margin is not None]
    unknown = max(int(np.count_nonzero(np.isinf(entry.error))) for entry in predictions.values())
    if not usable and unknown:
        raise InputError(
            f"{name}: no margin suffices: the {profile.coefficients} coefficients predict no latency for {unknown} of"
            f" {len(readings.model)} readings; use others, or leave these out"
        )
    if not usable:
        raise InputError(f"{name}: {count} group(s) of readings are too few for any margin")
    margins, about = [margin for _, margin in usable], None
    if planned is not None and beside is not None:
        margins = _lengthened(usable, predictions, readings, beside.error, planned[1].group)
        about = about_planned(*planned, beside)
    entry = Calibration(
        measurements=name,
        measurements_sha256=measurements_hash(readings),
        date=date,
        held_out="unseen" if "nothing" in predictions else "cross-validated",
        readings=len(readings.model),
        groups=count,
        mean_error=mean_error(predictions),
        confidence=tuple(level for level, _ in usable),
        margin=tuple(round(margin, 6) for margin in margins),
        margin_measured=_margin_measured(predictions, readings, [level for level, _ in usable]),
        planned=about,
    )
    return profile.model_copy(update={"calibration": {**(profile.calibration or {}), profile.coefficients: entry}})


def largest_confidence(count: int) -> float:
    """Return the largest confidence that so many groups allow, so that the worst seen is among the margins."""
    return math.floor(1e4 * count / (count + 1)) / 1e4


def _lengthened(
    usable: Sequence[tuple[float, float]],
    predictions: Mapping[Unseen, Predicted],
    readings: ColocatedMeasurements,
    error: FloatArray,
    group: Sequence[int],
) -> list[float]:
    """Margins of random groups, by confidence, so that they suffice for the errors of planned GPUs, too (see above)."""
    highest = largest_confidence(len(set(group)))
    worst, usual = margin_at(error, group, highest) or 0.0, margin_of(predictions, readings, highest)
    longer = max(1.0, worst / usual) if usual else 1.0
    found, least = [], 0.0
    for level, margin in usable:
        asked = sure_margin(error, group, level)
        least = max(least, margin * longer if asked is None else max(margin, asked))
        found.append(max(least, worst) if asked is None else least)
    return found


def predict_planned(profile: Profile, readings: ColocatedMeasurements, report: Report = lambda *_: None) -> Predicted:
    """Predict readings of solved plans' GPUs: by the profile's own fit, or by fits without their placements.

    The latter where the coefficients are fitted to some of these groups.

    Raises
    ------
    InputError
        A model is unknown, or no latency is predicted for some.
    """
    check_models(readings, profile.models, "planned measurements")
    profile, unit = profile.bare(), profile.hardware.share_unit_percent
    side, fitted = profile.colocated_measurements, False
    if profile.coefficients == "refined" and side is not None and fits_contention(profile):
        fitted = bool(set(side.placements(unit).values()) & set(readings.placements(unit).values()))
    if fitted:
        found = _crossed(profile, readings, readings.spots(unit), _without_placements, report)
    else:
        found = predict_readings(fit_coefficients(profile), readings)
    require_predictions("planned measurements", profile, found)
    return found


def require_predictions(name: str, profile: Profile, found: Predicted) -> None:
    """Raise InputError if a reading of measurements of this name has no prediction."""
    unknown = int(np.count_nonzero(np.isinf(found.error)))
    if unknown:
        raise InputError(
            f"{name}: the {profile.coefficients} coefficients predict no latency for {unknown} of"
            f" {len(found.error)} readings; use others, or leave these out"
        )


def about_planned(name: str, readings: ColocatedMeasurements, found: Predicted) -> PlannedReadings:
    """Return what a profile keeps of readings of solved plans' GPUs."""
    return PlannedReadings(
        measurements=name,
        measurements_sha256=measurements_hash(readings),
        readings=len(readings.model),
        groups=len(readings.members()),
        mean_error=round(float(np.abs(found.predicted_ms / found.measured_ms - 1.0).mean()), 6),
    )


def mean_error(predictions: Mapping[Unseen, Predicted]) -> float | None:
    """Mean of |predicted / measured - 1| of the way to predict that errs most; None where some have no prediction."""
    errors = [float(np.abs(found.predicted_ms / found.measured_ms - 1.0).mean()) for found in predictions.values()]
    return round(max(errors), 6) if all(map(math.isfinite, errors)) else None


def _margin_measured(
    predictions: Mapping[Unseen, Predicted], readings: ColocatedMeasurements, levels: list[float]
) -> tuple[float, ...] | None:
    """Margins of placements measured alone, if others were judged apart."""
    if not {"group", "placement"} <= set(predictions):
        return None
    margins = [margin_at(predictions["group"].error, readings.group, level) for level in levels]
    return tuple(round(margin, 6) for margin in margins if margin is not None)


def measurements_hash(readings: ColocatedMeasurements) -> str:
    """SHA-256 of the readings' JSON, notes left out."""
    return hashlib.sha256(readings.model_dump_json(exclude={"note"}).encode()).hexdigest()
