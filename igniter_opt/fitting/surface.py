"""The refined solo surface: active time over batch and share, piecewise linear and monotone by construction.

Measured active times k at scattered (batch, share) points become a table at every measured batch and share, in three
steps, each a closed form or a convex program, so that equal data give equal tables:

1. *Trend.* ``k ≈ (w1 + w2 b) / r + w3 + w4 b`` with w ≥ 0, by least squares of the relative error (non-negative least
   squares). The terms of w3 and w4 do not shrink with the share: what the SMs wait for together (memory, launches).
2. *Deviation.* The logarithm of measured over trend is interpolated by a Gaussian process with an exponential
   covariance in (log b, log r): exact at quiet measurements, the trend far from any. How far a deviation reaches is
   the model's own (a step at one share may hold for every batch), so that several reaches count, by their likelihood.
3. *Order.* Running maxima towards small shares and towards large batches: k never grows with the share, and never
   falls with the batch. From share to share it falls by a billionth at least, so that rounding cannot make it rise.

Between the table's batches the surface is linear in b, between its shares linear in 1/r; beyond them it keeps to what
is safe (see `ActiveSurface`).
"""

from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.curves import ActiveSurface

# Of the deviation: standard deviation, and lengths in log b and log r over which it is forgotten. All combinations
# count, by their likelihood. Chosen by leaving one batch out (bench/accuracy).
_SCALES = tuple(product((0.05, 0.1, 0.2), (3.0, 6.0, 20.0), (0.5, 1.0)))
# The trend has to serve everywhere, so that quiet points do not outweigh others by more than this.
_TREND_NOISE = 0.02
# From one share to the next k falls by this fraction at least.
_STRICTNESS = 1e-9


def fit_surface(batch: FloatArray, share: FloatArray, active_ms: FloatArray, noise: FloatArray) -> ActiveSurface:
    """Fit the surface to measurements.

    Parameters
    ----------
    batch, share, active_ms, noise
        Shape (points,): batch, share in percent, active time in ms, relative standard deviation of the measurement.
        Two batches and two shares at least.
    """

    def trend(b: FloatArray, r: FloatArray) -> FloatArray:
        return np.stack([1.0 / r, b / r, np.ones_like(b), b], axis=-1)

    weight = 1.0 / np.hypot(noise, _TREND_NOISE)
    rows = trend(batch, share) / active_ms[:, None] * weight[:, None]
    scale = np.sqrt((rows**2).mean(axis=0))
    coefficients = nnls(rows / scale, weight)[0] / scale
    deviation = np.log(active_ms) - np.log(trend(batch, share) @ coefficients)
    batches, shares = np.unique(batch), np.unique(share)
    knots = np.stack([axis.ravel() for axis in np.meshgrid(batches, shares, indexing="ij")])
    points = np.stack([batch, share])
    mean = _expected(points, deviation, noise, knots)
    table = trend(*knots) @ coefficients * np.exp(mean)
    table = table.reshape(len(batches), len(shares))
    table = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    table = np.maximum.accumulate(table, axis=0)
    table *= 1.0 + _STRICTNESS * np.arange(len(shares))[::-1]
    return ActiveSurface(tuple(batches.tolist()), tuple(shares.tolist()), tuple(map(tuple, table.tolist())))


def _expected(points: FloatArray, deviation: FloatArray, noise: FloatArray, knots: FloatArray) -> FloatArray:
    """Expected deviation at the knots, over all `_SCALES` by their likelihood; shape (knots,)."""
    misfit, means = [], []
    among, to_knots = _correlations(points, points), _correlations(knots, points)
    for size, by_batch, by_share in _SCALES:
        factor = cho_factor(size**2 * among[by_batch, by_share] + np.diag(noise**2), lower=True)
        gain = cho_solve(factor, deviation)
        # The negative logarithm of the likelihood, but for a constant.
        misfit.append(0.5 * deviation @ gain + np.log(np.diag(factor[0])).sum())
        means.append((size**2 * to_knots[by_batch, by_share]) @ gain)
    weight = np.exp(min(misfit) - np.array(misfit))
    return np.asarray(weight @ np.array(means) / weight.sum())


def _correlations(one: FloatArray, other: FloatArray) -> dict[tuple[float, float], FloatArray]:
    """Correlation of deviations for every pair of lengths in `_SCALES`, which share distances."""
    apart = [np.log(one[axis])[:, None] - np.log(other[axis])[None, :] for axis in range(2)]
    return {
        lengths: np.exp(-np.hypot(*(distance / length for distance, length in zip(apart, lengths, strict=True))))
        for lengths in {(by_batch, by_share) for _, by_batch, by_share in _SCALES}
    }
