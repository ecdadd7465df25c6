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

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Of the deviation: standard deviation, and lengths in log b and log r over which it is forgotten. All combinations
# count, by their likelihood. Chosen by leaving one batch out (bench/accuracy.py, bench/accuracy_cards.py).
_SCALES = tuple(product((0.05, 0.1, 0.2), (3.0, 6.0, 20.0), (0.5, 1.0)))
# The trend has to serve everywhere, so that quiet points do not outweigh others by more than this.
_TREND_NOISE = 0.02
# From one share to the next k falls by this fraction at least.
_STRICTNESS = 1e-9


@dataclass(frozen=True)
class ActiveSurface:
    """Active time (ms) at ascending batches (rows) and ascending shares in percent (columns).

    Below the smallest batch the active time is that of the smallest; above the largest it grows in proportion. Below
    the smallest share it grows in proportion to 1/r; above the largest it stays.
    """

    batches: tuple[float, ...]
    shares: tuple[float, ...]
    active_ms: tuple[tuple[float, ...], ...]

    @cached_property
    def _arrays(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Batches, reciprocal shares (both ascending) and the table in that order."""
        table = np.array(self.active_ms)
        return np.array(self.batches), 1.0 / np.array(self.shares)[::-1], table[:, ::-1].copy()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.batches, self.shares, self.active_ms))

    def at(self, batch: npt.ArrayLike, share: npt.ArrayLike) -> FloatArray:
        """Active time in ms at batches and shares (percent) of any broadcastable shapes."""
        batches, reciprocals, table = self._arrays
        b, x = np.broadcast_arrays(np.asarray(batch, dtype=float), 1.0 / np.asarray(share, dtype=float))
        beyond = np.maximum(b / batches[-1], 1.0) * np.maximum(x / reciprocals[-1], 1.0)
        row, up = _locate(batches, b)
        column, right = _locate(reciprocals, x)
        low = table[row, column] * (1.0 - right) + table[row, column + 1] * right
        high = table[row + 1, column] * (1.0 - right) + table[row + 1, column + 1] * right
        return np.asarray((low * (1.0 - up) + high * up) * beyond)


def _locate(knots: FloatArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index of the knot at or below each value (at most the last but one), and how far it is to the next, in 0..1."""
    at = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    return at, np.clip((values - knots[at]) / (knots[at + 1] - knots[at]), 0.0, 1.0)


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
    for scales in _SCALES:
        factor = cho_factor(_covariance(points, points, scales) + np.diag(noise**2), lower=True)
        gain = cho_solve(factor, deviation)
        # The negative logarithm of the likelihood, but for a constant.
        misfit.append(0.5 * deviation @ gain + np.log(np.diag(factor[0])).sum())
        means.append(_covariance(knots, points, scales) @ gain)
    weight = np.exp(min(misfit) - np.array(misfit))
    return np.asarray(weight @ np.array(means) / weight.sum())


def _covariance(one: FloatArray, other: FloatArray, scales: tuple[float, float, float]) -> FloatArray:
    deviation, *lengths = scales
    distance = [
        (np.log(one[axis])[:, None] - np.log(other[axis])[None, :]) / length for axis, length in enumerate(lengths)
    ]
    return np.asarray(deviation**2 * np.exp(-np.hypot(*distance)))
