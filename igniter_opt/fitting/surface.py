"""The refined solo surface: active time over batch and share, piecewise linear and monotone by construction.

Measured active times k at scattered (batch, share) points become a table at every measured batch and share, in three
steps, each a closed form or a convex program, so that equal data give equal tables:

1. *Trend.* ``k ≈ (w1 + w2 b) / r + w3 + w4 b`` with w ≥ 0, by least squares of the relative error (non-negative least
   squares). The terms of w3 and w4 do not shrink with the share: what the SMs wait for together (memory, launches).
2. *Deviation.* The logarithm of measured over trend is interpolated by a Gaussian process with an exponential
   covariance in (log b, log r): exact at quiet measurements, the trend far from any. How far a deviation reaches is
   the model's own (a step at one share may hold for every batch), so that several reaches count, by their likelihood.
3. *Order.* Running maxima towards small shares: k never grows with the share, and falls by a billionth at least from
   one to the next, so that rounding cannot make it rise. From batch to batch it may fall, where a library has faster
   kernels for larger ones, but by `JUMP` at least: smaller falls are noise, and k is the larger batches' maximum there.

Between the table's batches the surface is linear in b, between its shares linear in 1/r; beyond them it keeps to what
is safe (see `ActiveSurface`).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.curves import ActiveSurface

# Of the deviation: standard deviation, and lengths in log b and log r over which it is forgotten. All combinations
# count, by their likelihood. Chosen by leaving one batch out (bench/accuracy).
SCALES = tuple(product((0.05, 0.1, 0.2), (3.0, 6.0, 20.0), (0.5, 1.0)))
# The trend has to serve everywhere, so that quiet points do not outweigh others by more than this.
_TREND_NOISE = 0.02
# From one share to the next k falls by this fraction at least.
_STRICTNESS = 1e-9
# A larger batch that takes less by this fraction or more has other kernels.
JUMP = 0.03


def fit_surface(batch: FloatArray, share: FloatArray, active_ms: FloatArray, noise: FloatArray) -> ActiveSurface:
    """Fit the surface to measurements.

    Parameters
    ----------
    batch, share, active_ms, noise
        Shape (points,): batch, share in percent, active time in ms, relative standard deviation of the measurement.
        Two batches and two shares at least.
    """
    coefficients = _trend(batch, share, active_ms, noise)
    deviation = np.log(active_ms) - np.log(_terms(batch, share) @ coefficients)
    batches, shares = np.unique(batch), np.unique(share)
    knots = np.stack([axis.ravel() for axis in np.meshgrid(batches, shares, indexing="ij")])
    points = np.stack([batch, share])
    mean = _expected(points, deviation, noise, knots)
    table = _terms(*knots) @ coefficients * np.exp(mean)
    table = table.reshape(len(batches), len(shares))
    longest = np.maximum.accumulate(_falling(table), axis=0)
    table = _falling(np.where(_falling(table) > (1.0 - JUMP) * longest, longest, table))
    table *= 1.0 + _STRICTNESS * np.arange(len(shares))[::-1]
    return ActiveSurface(tuple(batches.tolist()), tuple(shares.tolist()), tuple(map(tuple, table.tolist())))


def _falling(table: FloatArray) -> FloatArray:
    """Running maxima of every row towards its small shares."""
    return np.asarray(np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1])


def _terms(batch: FloatArray, share: FloatArray) -> FloatArray:
    return np.stack([1.0 / share, batch / share, np.ones_like(batch), batch], axis=-1)


def _trend(batch: FloatArray, share: FloatArray, active_ms: FloatArray, noise: FloatArray) -> FloatArray:
    weight = 1.0 / np.hypot(noise, _TREND_NOISE)
    rows = _terms(batch, share) / active_ms[:, None] * weight[:, None]
    scale = np.sqrt((rows**2).mean(axis=0))
    return np.asarray(nnls(rows / scale, weight)[0] / scale)


def _expected(points: FloatArray, deviation: FloatArray, noise: FloatArray, knots: FloatArray) -> FloatArray:
    """Expected deviation at the knots, over all `SCALES` by their likelihood; shape (knots,)."""
    misfit, means = [], []
    among, to_knots = _correlations(points, points), _correlations(knots, points)
    for size, *lengths in SCALES:
        factor = cho_factor(size**2 * among[tuple(lengths)] + np.diag(noise**2), lower=True)
        gain = cho_solve(factor, deviation)
        misfit.append(_misfit(factor[0], gain, deviation))
        means.append((size**2 * to_knots[tuple(lengths)]) @ gain)
    weight = _weights(misfit)
    return np.asarray(weight @ np.array(means))


def _misfit(factor: FloatArray, gain: FloatArray, deviation: FloatArray) -> float:
    """The negative logarithm of the likelihood, but for a constant."""
    return float(0.5 * deviation @ gain + np.log(np.diag(factor)).sum())


def _weights(misfit: list[float]) -> FloatArray:
    weight = np.exp(min(misfit) - np.array(misfit))
    return np.asarray(weight / weight.sum())


def likelihoods(batch: FloatArray, share: FloatArray, active_ms: FloatArray, noise: FloatArray) -> FloatArray:
    """How likely each of `SCALES` is, given measurements as of `fit_surface`; together 1."""
    deviation = np.log(active_ms) - np.log(_terms(batch, share) @ _trend(batch, share, active_ms, noise))
    points, misfit = np.stack([batch, share]), []
    among = _correlations(points, points)
    for size, *lengths in SCALES:
        factor = cho_factor(size**2 * among[tuple(lengths)] + np.diag(noise**2), lower=True)
        misfit.append(_misfit(factor[0], cho_solve(factor, deviation), deviation))
    return _weights(misfit)


def covariance(one: FloatArray, other: FloatArray, scales: tuple[float, float, float]) -> FloatArray:
    """Covariance of the deviations at some points with those at others; each of shape (2, points): batch, share."""
    size, *lengths = scales
    return np.asarray(size**2 * _correlation(_apart(one, other), lengths))


def _correlations(one: FloatArray, other: FloatArray) -> dict[tuple[float, ...], FloatArray]:
    """Correlation of deviations for every pair of lengths in `SCALES`, which share distances."""
    apart = _apart(one, other)
    return {lengths: _correlation(apart, lengths) for lengths in {tuple(scales[1:]) for scales in SCALES}}


def _apart(one: FloatArray, other: FloatArray) -> list[FloatArray]:
    return [np.log(one[axis])[:, None] - np.log(other[axis])[None, :] for axis in range(2)]


def _correlation(apart: list[FloatArray], lengths: Sequence[float]) -> FloatArray:
    scaled = [distance / length for distance, length in zip(apart, lengths, strict=True)]
    return np.asarray(np.exp(-np.hypot(*scaled)))
