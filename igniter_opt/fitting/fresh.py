"""Margins by fresh readings, taken after the coefficients were fitted; and how they differ from model to model.

Nothing has to be cross-validated: all readings are predicted by the profile's own fit. Where GPUs of plans are among
them that were solved with it, they are what that fit flatters, and a next one flatters others. The margin for a
confidence suffices for random groups and for all as one population (`calibration.margin_at`), and for GPUs of plans
with a chance of `calibration.SURE` (`sure_margin`), each as far as there are enough of them.

*Spread.* Some models are predicted better than others. A model's spread is the mean |error| of its readings, and of
`_PRIOR` more that err like the average of all models', over that average. Errors are divided by it before a margin is
looked for, and plans multiply the margin by it again (`judging`), so that a model that is predicted well costs less.
For spreads that were known beforehand a margin would be what `calibration` says of one; these are of the same readings,
but few numbers of hundreds.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.measurements import ColocatedMeasurements, check_models
from igniter_opt.data.profile import Calibration, Profile
from igniter_opt.fitting.calibration import (
    CONFIDENCES,
    Predicted,
    about_planned,
    largest_confidence,
    margin_at,
    mean_error,
    measurements_hash,
    predict_readings,
    require_predictions,
    sure_margin,
)
from igniter_opt.fitting.coefficients import fit_coefficients

_PRIOR = 20.0


def calibrate_fresh(
    profile: Profile,
    random: tuple[str, ColocatedMeasurements],
    planned: tuple[str, ColocatedMeasurements] | None,
    date: str,
) -> Profile:
    """Return the profile with margins and spreads of its coefficient set.

    Parameters
    ----------
    random, planned
        Names and readings: of groups drawn at random, and of GPUs of plans that were solved with the profile.
    date
        Today's, which the profile keeps.

    Raises
    ------
    InputError
        A model is unknown, a reading is not fresh or has no prediction, or groups are too few for any confidence.
    """
    parts = [random, *([] if planned is None else [planned])]
    found = [_predicted(profile, *part) for part in parts]
    models = [np.array(readings.model) for _, readings in parts]
    spread = spreads(list(profile.models), np.concatenate(models), np.concatenate([entry.error for entry in found]))
    error = [entry.error / np.array([spread[name] for name in own]) for entry, own in zip(found, models, strict=True)]
    group = [np.array(readings.group) for _, readings in parts]
    error.append(np.concatenate(error))
    group.append(np.concatenate([own + number * (1 + max(group[0])) for number, own in enumerate(group)]))
    count = len(set(group[-1].tolist()))
    largest = largest_confidence(count)
    levels = [level for level in (*(level for level in CONFIDENCES if level < largest), largest) if level > 0]
    ways = [margin_at, *([] if planned is None else [sure_margin]), margin_at]
    asked = [
        [way(*part, level) for way, part in zip(ways, zip(error, group, strict=True), strict=True)] for level in levels
    ]
    margins = [max(margin for margin in row if margin is not None) for row in asked if row[-1] is not None]
    if not margins:
        raise InputError(f"{random[0]}: {count} group(s) of readings are too few for any margin")
    entry = Calibration(
        measurements=random[0],
        measurements_sha256=measurements_hash(random[1]),
        date=date,
        held_out="unseen",
        readings=len(found[0].error),
        groups=len(random[1].members()),
        mean_error=mean_error({"nothing": found[0]}),
        confidence=tuple(levels[: len(margins)]),
        margin=tuple(round(float(margin), 6) for margin in np.maximum.accumulate(margins)),
        spread={name: round(value, 4) for name, value in spread.items()},
        planned=None if planned is None else about_planned(*planned, found[1]),
    )
    return profile.model_copy(update={"calibration": {**(profile.calibration or {}), profile.coefficients: entry}})


def spreads(models: Sequence[str], model: npt.ArrayLike, error: FloatArray) -> dict[str, float]:
    """Return the spread of every model (see above), given the models and errors of readings; 1 if none errs."""
    size, of = np.abs(error), np.asarray(model)
    average = float(size.mean())
    if average == 0.0:
        return dict.fromkeys(models, 1.0)
    return {
        name: (float(size[of == name].sum()) / average + _PRIOR) / (int((of == name).sum()) + _PRIOR) for name in models
    }


def covered(profile: Profile, readings: ColocatedMeasurements, found: Predicted, confidence: float) -> float:
    """Return which part of readings is no longer than predicted with the profile's margins for a confidence."""
    margin = profile.margin_at(confidence)
    return float(np.mean(found.error <= margin * np.array([profile.spread_of(name) for name in readings.model])))


def _predicted(profile: Profile, name: str, readings: ColocatedMeasurements) -> Predicted:
    check_models(readings, profile.models, name)
    known = profile.colocated_measurements
    if known is not None and _rows(known) & _rows(readings):
        raise InputError(f"{name}: holds readings that are in profile {profile.name}; leave --fresh out, or these")
    found = predict_readings(fit_coefficients(profile.bare()), readings)
    require_predictions(name, profile, found)
    return found


def _rows(readings: ColocatedMeasurements) -> set[tuple[str, int, float, float]]:
    return set(zip(readings.model, readings.batch, readings.share_percent, readings.latency_ms, strict=True))
