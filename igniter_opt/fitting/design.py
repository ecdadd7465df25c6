"""Where to measure a model alone next: where that tells most of the times that plans need.

The surface of active times (`surface`) says how uncertain it is between measurements: the deviation from its trend is a
Gaussian process, whose covariance does not depend on what will be measured. So the points that leave least uncertainty
can be chosen before they are measured, one after the other, each given those before (active learning by Cohn 1996,
"ALC"): the next one is the candidate that lowers the variance, summed over the batches and shares that plans may use,
most. All scales of the process count by their likelihood on what was measured.
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from igniter_opt.base.arrays import FloatArray
from igniter_opt.fitting.surface import SCALES, covariance, likelihoods


def most_telling(
    batch: FloatArray,
    share: FloatArray,
    active_ms: FloatArray,
    noise: float,
    candidates: Sequence[tuple[int, float]],
    region: Sequence[tuple[int, float]],
    count: int,
) -> list[int]:
    """Choose points that tell most of a model's active time.

    Parameters
    ----------
    batch, share, active_ms
        What was measured, shape (points,); two batches and two shares at least.
    noise
        Relative standard deviation of a measurement, of those to come, too.
    candidates, region
        Batches and shares (percent) that may be measured; and those at which the time is wanted.
    count
        How many to choose.

    Returns
    -------
    list
        Positions in `candidates`, in the order of choice; fewer where there are no more candidates.
    """
    weights = likelihoods(batch, share, active_ms, np.full(len(batch), noise))
    points = np.stack([batch, share])
    wanted = np.array([*candidates, *region], dtype=float).T
    split = len(candidates)
    spread: list[FloatArray] = []
    for scales in SCALES:
        factor = cho_factor(covariance(points, points, scales) + noise**2 * np.eye(len(batch)), lower=True)
        across = covariance(points, wanted, scales)
        spread.append(covariance(wanted, wanted, scales) - across.T @ cho_solve(factor, across))
    chosen: list[int] = []
    while len(chosen) < min(count, split):
        gain = np.zeros(split)
        for weight, known in zip(weights, spread, strict=True):
            own = known.diagonal()[:split] + noise**2
            gain += weight * (known[split:, :split] ** 2).sum(axis=0) / own
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        chosen.append(best)
        for k, known in enumerate(spread):
            column = known[:, best]
            spread[k] = known - np.outer(column, column) / (column[best] + noise**2)
    return chosen
