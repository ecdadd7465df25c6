"""How far measured latencies lie above predicted ones: error margins by confidence.

A reading's *error* is what its predicted GPU latency would have to be inflated by to give the latency measured::

    error = (latency measured - loading - feedback) / GPU latency predicted - 1

The margin for a confidence q is the ``⌈(n + 1) q⌉``-th smallest of n errors (0 if it is negative): for a further
reading from the same population the chance of a larger error is then at most 1 - q, whatever the distribution (split
conformal prediction, Vovk et al. 2005). If ⌈(n + 1) q⌉ > n, n readings are too few for q.

Readings that the coefficients were fitted to would make them look better than they are. They are predicted by a fit
that has none of the readings of groups with that batch size (*cross-validation by batch*): plans use batches that were
never measured side by side.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from igniter_opt.coefficients import Coefficients, FloatArray, fit_coefficients
from igniter_opt.errors import InputError
from igniter_opt.measurements import ColocatedMeasurements, check_models
from igniter_opt.predictor import predict_many
from igniter_opt.profile import Calibration, Profile
from igniter_opt.refined import fits_contention

CONFIDENCES = (0.5, 0.9, 0.95, 0.99, 0.999)
_MOST_FOLDS = 8


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


def batch_folds(readings: ColocatedMeasurements) -> list[set[int]]:
    """Batch sizes of every fold: one each, or several where there are more than a few."""
    sizes = sorted(set(readings.batch))
    return [set(sizes[k::_MOST_FOLDS]) for k in range(min(_MOST_FOLDS, len(sizes)))]


def predict_unseen(profile: Profile, readings: ColocatedMeasurements) -> tuple[Predicted, bool]:
    """Predict readings by coefficients that were not fitted to them.

    Returns
    -------
    tuple
        The predictions, and whether they are cross-validated (otherwise the profile's fit has seen none of them).
    """
    check_models(readings, profile.models, "measurements")
    fitted = profile.colocated_measurements
    known = set() if fitted is None or profile.coefficients != "refined" else set(_groups(fitted).values())
    if fitted is None or not fits_contention(profile) or not known & set(_groups(readings).values()):
        return predict_readings(fit_coefficients(profile), readings), False
    columns = np.full((3, len(readings.model)), np.nan)
    for sizes in batch_folds(readings):
        rest = fitted.take(
            number for number, members in fitted.members().items() if not sizes & {fitted.batch[k] for k in members}
        )
        without = profile.model_copy(update={"colocated_measurements": rest})
        if not fits_contention(without):
            raise InputError(
                f"profile {profile.name}: without the readings of batch {', '.join(map(str, sorted(sizes)))} too few"
                " are left to fit to, so nothing can be cross-validated; give measurements that the profile lacks"
            )
        found = predict_readings(fit_coefficients(without), readings)
        here = np.isin(readings.batch, list(sizes))
        columns[:, here] = np.array(found)[:, here]
    return Predicted(*columns), True


def _groups(readings: ColocatedMeasurements) -> dict[int, frozenset[tuple[str, int, float, float]]]:
    rows = list(zip(readings.model, readings.batch, readings.share_percent, readings.latency_ms, strict=True))
    return {number: frozenset(rows[k] for k in members) for number, members in readings.members().items()}


def margin_at(error: FloatArray, confidence: float) -> float | None:
    """Return the margin for a confidence (see above); None if the errors are too few for it."""
    rank = math.ceil((len(error) + 1) * confidence - 1e-9)
    return None if rank > len(error) else max(0.0, float(np.sort(error)[rank - 1]))


def calibrate(profile: Profile, readings: ColocatedMeasurements, name: str, date: str) -> Profile:
    """Return the profile with the error margins of its coefficient set, from measurements side by side.

    Parameters
    ----------
    name, date
        Name of the measurements, and today's date, which the profile keeps.

    Raises
    ------
    InputError
        The measurements name unknown models, or are too few for any confidence.
    """
    predicted, crossed = predict_unseen(profile, readings)
    count = len(predicted.error)
    # The largest that so many readings allow, so that the worst seen is among the margins.
    largest = math.floor(1e4 * count / (count + 1)) / 1e4
    levels = [level for level in CONFIDENCES if level < largest] + [largest]
    found = [(level, margin_at(predicted.error, level)) for level in levels]
    usable = [(level, margin) for level, margin in found if margin is not None and level > 0 and math.isfinite(margin)]
    unknown = int(np.count_nonzero(np.isinf(predicted.error)))
    if not usable and unknown:
        raise InputError(
            f"{name}: no margin suffices: the {profile.coefficients} coefficients predict no latency for {unknown} of"
            f" {count} readings; use others, or leave these out"
        )
    if not usable:
        raise InputError(f"{name}: {count} reading(s) are too few for any margin")
    entry = Calibration(
        measurements=name,
        measurements_sha256=measurements_hash(readings),
        date=date,
        held_out="cross-validated" if crossed else "unseen",
        readings=count,
        confidence=tuple(level for level, _ in usable),
        margin=tuple(round(margin, 6) for _, margin in usable),
    )
    return profile.model_copy(update={"calibration": {**(profile.calibration or {}), profile.coefficients: entry}})


def measurements_hash(readings: ColocatedMeasurements) -> str:
    """SHA-256 of the readings' JSON, notes left out."""
    return hashlib.sha256(readings.model_dump_json(exclude={"note"}).encode()).hexdigest()
