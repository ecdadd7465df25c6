"""Forecasts of demand from its past, and nothing else.

Every kind takes a point forecast and adds a quantile of what the same rule has missed by in the past, workload by
workload. No forecast is above the highest rate so far: what has never been is not planned for.

``seasonal``
    The rate one season earlier, a day, say.
``smoothed``
    The mean over all seasons so far at this time of the season, each counting less than the one after it.
``naive``
    The last known rate, for all steps ahead; what it misses by is that of the same distance ahead.

No forecasting library is used: docs/schedule.md has the comparison.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError

# What the last season counts in the mean of `smoothed`; the mean of all before it counts the rest.
_LAST = 0.4


def blocks_of(steps: int, history: int, span: int) -> list[int]:
    """Return the first steps of the blocks that are planned one after the other."""
    return list(range(history, steps, span))


def forecast(kind: str, past: FloatArray, ahead: int, season: int, quantile: float) -> FloatArray:
    """Return the forecast rates of the steps after the past ones, shape (ahead, workloads).

    Parameters
    ----------
    past
        Rates so far, shape (steps, workloads).
    season
        Steps of a season; all kinds but ``naive`` need two of them.
    quantile
        Which part of the past errors the forecast is above.
    """
    if kind == "naive":
        if len(past) < 2:
            raise InputError(f"a forecast needs a past of two steps at least; there are {len(past)}")
        lags = [min(distance, len(past) - 1) for distance in range(1, ahead + 1)]
        errors = {lag: np.quantile(past[lag:] - past[:-lag], quantile, axis=0) for lag in set(lags)}
        found = past[-1] + np.array([errors[lag] for lag in lags])
    else:
        if len(past) < 2 * season:
            raise InputError(
                f"a {kind} forecast needs a past of two seasons, {2 * season} steps; there are {len(past)}"
            )
        found = _seasonal(past, ahead, season, quantile, 1.0 if kind == "seasonal" else _LAST)
    return np.asarray(np.clip(found, 0.0, past.max(axis=0)))


def _seasonal(past: FloatArray, ahead: int, season: int, quantile: float, last: float) -> FloatArray:
    # Seasons back from the last known step, so that the next step is the first of one.
    seasons = len(past) // season
    rates = past[len(past) - seasons * season :].reshape(seasons, season, -1)
    mean, missed = rates[0], []
    for rate in rates[1:]:
        missed.append(rate - mean)
        mean = last * rate + (1.0 - last) * mean
    error = np.quantile(np.concatenate(missed), quantile, axis=0)
    return np.asarray(mean[np.arange(ahead) % season] + error)
