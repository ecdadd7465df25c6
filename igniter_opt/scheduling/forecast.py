"""Forecasts of demand from its past, and nothing else.

Both kinds take a point forecast and add what the same rule has missed by in the past, at a quantile. Errors are
relative to the middle of point forecast and mean past rate, so that rates near zero do not make them boundless; each
workload has its own distribution.

``seasonal``
    The rate one season earlier (a day, say), or the last season's that is known.
``naive``
    The last known rate, for all steps ahead; its errors are those at the same distance ahead.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError


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
        Steps of a season; ``seasonal`` needs two of them.
    quantile
        Which part of the past errors the forecast is above.
    """
    if kind == "seasonal":
        if len(past) < 2 * season:
            raise InputError(
                f"a seasonal forecast needs a past of two seasons, {2 * season} steps; there are {len(past)}"
            )
        point = past[len(past) - season + np.arange(ahead) % season]
        missed = past[season:] - past[:-season]
        base = past[:-season]
        return _above(point, base, missed, quantile)
    if len(past) < 2:
        raise InputError(f"a forecast needs a past of two steps at least; there are {len(past)}")
    rows = []
    for distance in range(1, ahead + 1):
        lag = min(distance, len(past) - 1)
        rows.append(_above(past[-1:], past[:-lag], past[lag:] - past[:-lag], quantile)[0])
    return np.array(rows)


def _above(point: FloatArray, base: FloatArray, missed: FloatArray, quantile: float) -> FloatArray:
    """Return a point forecast with the quantile of its rule's relative errors, never below zero."""
    level = base.mean(axis=0)
    scale = 0.5 * (base + level)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(scale > 0, missed / scale, 0.0)
    error = np.quantile(relative, quantile, axis=0)
    return np.asarray(np.maximum(0.0, point + error * 0.5 * (point + level)))
